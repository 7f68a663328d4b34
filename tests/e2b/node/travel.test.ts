/** Pause, snapshots, forks and the network: what needs more of a driver than running programs. */

import assert from 'node:assert/strict'
import { check, sdk, until } from './bed.js'

const { Sandbox } = sdk

check('pauses and goes on', async ({ make }) => {
  const sandbox = await make()
  const pause = sandbox.pause ? 'pause' : 'betaPause'
  const counter = await sandbox.commands.run('exec sleep 1000', { background: true, timeoutMs: 0 })
  await sandbox[pause]()
  assert.equal((await sandbox.getInfo()).state, 'paused')
  assert.equal(await sandbox.isRunning(), false)
  const paused = await Sandbox.list({ query: { state: ['paused'] } }).nextItems()
  assert.ok(paused.some((one: any) => one.sandboxId === sandbox.sandboxId))
  if (Sandbox.pause) assert.equal(await Sandbox.pause(sandbox.sandboxId), false)
  const again = await Sandbox.connect(sandbox.sandboxId, { timeoutMs: 120_000 })
  assert.ok((await again.commands.list()).some((one: any) => one.pid === counter.pid))
  await again.betaPause()
  await again.connect()
  await Sandbox.betaPause(sandbox.sandboxId)
  assert.equal((await again.getInfo()).state, 'paused')
})

check('pauses by itself', async ({ make, skip }) => {
  if (Sandbox.betaCreate) skip('tested with the newer way')
  const sandbox = await make({ timeoutMs: 1000, lifecycle: { onTimeout: 'pause' } })
  await until('it pauses', async () => (await sandbox.getInfo()).state === 'paused')
  assert.equal((await (await sandbox.connect()).commands.run('echo back')).stdout, 'back\n')
})

check('forks', async ({ make, skip }) => {
  if (!Sandbox.fork) skip('this version has no Sandbox.fork')
  const sandbox = await make()
  await sandbox.files.write('from', 'parent')
  const forks = [...(await sandbox.fork({ count: 2, timeoutMs: 60_000 })), ...(await Sandbox.fork(sandbox.sandboxId))]
  assert.equal(forks.length, 3)
  try {
    for (const fork of forks) {
      assert.equal(await fork.files.read('from'), 'parent')
      await fork.files.write('from', fork.sandboxId)
    }
    assert.equal(await sandbox.files.read('from'), 'parent')
  } finally {
    for (const fork of forks) await fork.kill?.()
  }
})

check('snapshots', async ({ make, skip }) => {
  if (!Sandbox.createSnapshot) skip('this version has no Sandbox.createSnapshot')
  const sandbox = await make()
  await sandbox.files.write('state', '1')
  const one = await sandbox.createSnapshot()
  await sandbox.files.write('state', '2')
  const two = await Sandbox.createSnapshot(sandbox.sandboxId)
  try {
    const listed = await sandbox.listSnapshots().nextItems()
    assert.deepEqual(new Set(listed.map((found: any) => found.snapshotId)), new Set([one.snapshotId, two.snapshotId]))
    assert.equal((await Sandbox.listSnapshots({ sandboxId: sandbox.sandboxId }).nextItems()).length, 2)
    assert.equal(await (await make(one.snapshotId)).files.read('state'), '1')
    assert.equal(await (await make(two.snapshotId)).files.read('state'), '2')
  } finally {
    assert.equal(await Sandbox.deleteSnapshot(one.snapshotId), true)
    assert.equal(await Sandbox.deleteSnapshot(two.snapshotId), true)
  }
  assert.equal(await Sandbox.deleteSnapshot(one.snapshotId), false)
})

check('rules of the network', async ({ make, skip }) => {
  if (!Sandbox.updateNetwork) skip('this version has no Sandbox.updateNetwork')
  const rules = { allowOut: ['example.org', '192.0.2.7'], denyOut: [sdk.ALL_TRAFFIC] }
  const sandbox = await make({ network: rules })
  const now = async () => {
    const { network } = await sandbox.getInfo()
    return { allowOut: network.allowOut, denyOut: network.denyOut }
  }
  assert.deepEqual(await now(), rules)
  const connect = 'curl -sS --max-time 5 http://1.1.1.1/'
  await assert.rejects(sandbox.commands.run(connect), sdk.CommandExitError)
  await sandbox.updateNetwork({ denyOut: ['192.0.2.0/24'] })
  assert.deepEqual(await now(), { allowOut: [], denyOut: ['192.0.2.0/24'] }, 'what is left out is lifted')
  await Sandbox.updateNetwork(sandbox.sandboxId, { allowInternetAccess: false })
  assert.deepEqual(await now(), { allowOut: [], denyOut: [sdk.ALL_TRAFFIC] })
  await assert.rejects(sandbox.commands.run(connect), sdk.CommandExitError)
})
