/** Commands: output, ends, users, stdin, what goes on in the background. */

import assert from 'node:assert/strict'
import { check, sdk, until } from './bed.js'

const bytes = (text: string) => new TextEncoder().encode(text)

check('output and exit code', async ({ make }) => {
  const { commands } = await make()
  const done = await commands.run('echo out; echo err >&2')
  assert.deepEqual([done.stdout, done.stderr, done.exitCode], ['out\n', 'err\n', 0])
  await assert.rejects(commands.run('echo no; exit 3'), (error: any) => {
    return error instanceof sdk.CommandExitError && error.exitCode === 3 && error.stdout === 'no\n'
  })
})

check('callbacks hear output', async ({ make }) => {
  const { commands } = await make()
  let [out, err] = ['', '']
  await commands.run('echo 1; echo 2 >&2; echo 3', { onStdout: (said: string) => (out += said), onStderr: (said: string) => (err += said) })
  assert.deepEqual([out, err], ['1\n3\n', '2\n'])
})

check('much output of any characters', async ({ make }) => {
  const { commands } = await make()
  const done = await commands.run("yes 'häßlich 🦭' | head -c 3000000")
  assert.ok(done.stdout.split('🦭').length > 100_000)
})

check('envs, folder and user', async ({ make }) => {
  const { commands } = await make()
  assert.equal((await commands.run('pwd; whoami; echo $HOME $USER')).stdout, '/home/user\nuser\n/home/user user\n')
  assert.equal((await commands.run('pwd; echo $A', { cwd: '/tmp', envs: { A: 'b c' } })).stdout, '/tmp\nb c\n')
  assert.equal((await commands.run('id -un; echo $HOME', { user: 'root' })).stdout, 'root\n/root\n')
  await assert.rejects(commands.run('true', { cwd: '/nowhere' }), /nowhere/)
  await assert.rejects(commands.run('true', { user: 'nobody-such' }), /nobody-such/)
})

check('in the background', async ({ make }) => {
  const { commands } = await make()
  const command = await commands.run('echo begun; sleep 0.2; echo over; exit 5', { background: true })
  assert.ok(command.pid > 0)
  await assert.rejects(command.wait(), (error: any) => error.exitCode === 5 && error.stdout === 'begun\nover\n')
  assert.deepEqual([command.exitCode, command.stdout], [5, 'begun\nover\n'])
})

check('is listed and killed', async ({ make }) => {
  const { commands } = await make()
  const one = await commands.run('exec sleep 1000', { background: true })
  const two = await commands.run('exec sleep 2000', { background: true })
  const listed = (await commands.list()).map((process: any) => process.pid)
  assert.ok(listed.includes(one.pid) && listed.includes(two.pid))
  assert.equal(await commands.kill(one.pid), true)
  assert.equal(await two.kill(), true)
  for (const command of [one, two]) await assert.rejects(command.wait(), sdk.CommandExitError)
  assert.equal(await commands.kill(one.pid), false)
})

check('reads stdin to its end', async ({ make }) => {
  const { commands } = await make()
  const command = await commands.run('read a; read b; echo $b $a', { background: true, stdin: true })
  await commands.sendStdin(command.pid, 'one\n')
  await commands.sendStdin(command.pid, 'two\n')
  assert.equal((await command.wait()).stdout, 'two one\n')
  if (!commands.closeStdin) return
  const cat = await commands.run('cat', { background: true, stdin: true })
  await cat.sendStdin('through the handle\n')
  await cat.closeStdin()
  assert.equal((await cat.wait()).stdout, 'through the handle\n')
  const count = await commands.run('wc -c', { background: true, stdin: true })
  await commands.sendStdin(count.pid, '12345')
  await commands.closeStdin(count.pid)
  assert.equal((await count.wait()).stdout.trim(), '5')
})

check('connects to what runs', async ({ make }) => {
  const { commands } = await make()
  const command = await commands.run('read line; echo got $line', { background: true, stdin: true })
  await command.disconnect()
  const again = await commands.connect(command.pid)
  await commands.sendStdin(command.pid, 'this\n')
  assert.equal((await again.wait()).stdout, 'got this\n')
})

check('a timeout ends the process', async ({ make }) => {
  const { commands } = await make()
  await assert.rejects(commands.run('exec sleep 4321', { timeoutMs: 1000 }), sdk.TimeoutError)
  await until('it is gone', async () => (await commands.run('pgrep -xc sleep || true')).stdout.trim() === '0')
})

check('a terminal', async ({ make }) => {
  const { pty } = await make()
  let said = ''
  const onData = (data: Uint8Array) => (said += Buffer.from(data).toString())
  const terminal = await pty.create({ cols: 90, rows: 30, cwd: '/tmp', envs: { MINE: '42' }, onData })
  await pty.sendInput(terminal.pid, bytes('echo $MINE-$PWD-$TERM\n'))
  await pty.resize(terminal.pid, { cols: 120, rows: 40 })
  await pty.sendInput(terminal.pid, bytes('stty size; exit 0\n'))
  await terminal.wait()
  assert.match(said, /42-\/tmp-xterm-256color/)
  assert.match(said, /40 120/)
})

check('a terminal is connected to and killed', async ({ make }) => {
  const { pty } = await make()
  let terminal = await pty.create({ cols: 80, rows: 24, user: 'root', onData: () => {} })
  if (pty.connect) {
    await terminal.disconnect()
    terminal = await pty.connect(terminal.pid, { onData: () => {} })
  }
  assert.equal(await pty.kill(terminal.pid), true)
  await assert.rejects(terminal.wait(), sdk.CommandExitError)
  assert.equal(await pty.kill(terminal.pid), false)
})
