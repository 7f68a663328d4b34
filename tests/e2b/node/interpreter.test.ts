/** The code interpreter SDK, unmodified: every method of its own, and what comes of code. */

import assert from 'node:assert/strict'
import { check, sdk } from './bed.js'

check('values, variables that stay, and an error', async ({ make }) => {
  const sandbox = await make()
  await sandbox.runCode('x = 20')
  const done = await sandbox.runCode('x + 1')
  assert.deepEqual([done.text, done.error], ['21', undefined])
  assert.deepEqual([done.results[0].toJSON().text, done.toJSON().logs], ['21', done.logs])
  const heard: string[] = []
  const failed = await sandbox.runCode("print('out')\n1 / 0", {
    onStdout: (said: any) => heard.push(said.line),
    onError: (error: any) => heard.push(error.name),
  })
  assert.equal(failed.error.name, 'ZeroDivisionError')
  assert.deepEqual(heard, ['out\n', 'ZeroDivisionError'])
})

check('charts and tables', async ({ make }) => {
  const sandbox = await make()
  const code = "import matplotlib.pyplot as plt\nplt.pie([1, 3], labels=['p', 'q'])\nplt.show()"
  const [figure] = (await sandbox.runCode(code)).results
  assert.ok(figure.png.length > 1000)
  assert.deepEqual([figure.chart.type, figure.chart.elements[1].label, figure.chart.elements[1].angle], ['pie', 'q', 270])
  const [table] = (await sandbox.runCode("import pandas as pd\npd.DataFrame({'n': [1, None]})")).results
  assert.deepEqual(table.data, { n: [1, null] })
  assert.ok(['html', 'data'].every((form) => table.formats().includes(form)))
})

check('other languages and variables of the environment', async ({ make }) => {
  const sandbox = await make()
  const run = async (code: string, options: object) => (await sandbox.runCode(code, options)).results.map((one: any) => one.text)
  assert.deepEqual(await run('await Promise.resolve(process.env.A)', { language: 'javascript', envs: { A: 'b c' } }), ['b c'])
  assert.deepEqual(await run('const n: number = 41; n + 1', { language: 'typescript' }), ['42'])
  assert.deepEqual((await sandbox.runCode('echo $((1 + 1))', { language: 'bash' })).logs.stdout, ['2\n'])
  await assert.rejects(sandbox.runCode('1', { language: 'java' }), /400/)
})

check('contexts', async ({ make }) => {
  const sandbox = await make()
  const one = await sandbox.createCodeContext({ cwd: '/tmp' })
  const other = await sandbox.createCodeContext({ language: 'javascript' })
  assert.deepEqual([one.language, one.cwd, other.language], ['python', '/tmp', 'javascript'])
  await sandbox.runCode('mine = 1', { context: one })
  assert.equal((await sandbox.runCode('mine')).error.name, 'NameError')
  const listed = (await sandbox.listCodeContexts()).map((context: any) => context.id)
  assert.ok(listed.includes(one.id) && listed.includes(other.id))
  await sandbox.restartCodeContext(one)
  assert.equal((await sandbox.runCode('mine', { context: one })).error.name, 'NameError')
  await sandbox.removeCodeContext(one.id)
  await assert.rejects(sandbox.runCode('1', { context: one }), sdk.NotFoundError)
})

check('too late interrupts and forgets nothing', async ({ make }) => {
  const sandbox = await make()
  await sandbox.runCode('kept = 7')
  await assert.rejects(sandbox.runCode('while True: pass', { timeoutMs: 2000 }), sdk.TimeoutError)
  assert.equal((await sandbox.runCode('kept', { timeoutMs: 30_000 })).text, '7')
})
