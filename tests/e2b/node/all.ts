/** The whole suite in one process, one test after the other. */

import { after } from 'node:test'
import { report } from './methods.js'

after(report)

await import('./sandbox.test.js')
await import('./commands.test.js')
await import('./files.test.js')
await import('./git.test.js')
await import('./travel.test.js')
await import('./template.test.js')
await import('./refused.test.js')
