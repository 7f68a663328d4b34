/** The whole suite in one process, one test after the other. */

import { after } from 'node:test'
import { client, report } from './methods.js'

after(report)

if (client === 'e2b') {
  await import('./sandbox.test.js')
  await import('./commands.test.js')
  await import('./files.test.js')
  await import('./git.test.js')
  await import('./travel.test.js')
  await import('./template.test.js')
  await import('./volumes.test.js')
  await import('./refused.test.js')
} else {
  await import('./interpreter.test.js')
}
