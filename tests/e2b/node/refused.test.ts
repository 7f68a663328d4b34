/** What is not there is refused in words that a user sees, never answered with something else. */

import assert from 'node:assert/strict'
import { check, sdk } from './bed.js'

check('secrets are refused', async ({ skip }) => {
  const { Secret } = sdk
  if (!Secret) skip('this version has no Secret')
  const calls = [
    () => Secret.create('name', 'value'), () => Secret.update('name', 'value'), () => Secret.getInfo('name'),
    () => Secret.exists('name'), () => Secret.destroy('name'), () => Secret.list().nextItems(),
  ]
  for (const call of calls) await assert.rejects(call, /secrets/i)
})

check('what the network cannot enforce is refused', async ({ make, skip }) => {
  if (!sdk.Sandbox.updateNetwork) skip('this version has no Sandbox.updateNetwork')
  const sandbox = await make()
  const rules = { 'example.org': [{ transform: { headers: { a: 'b' } } }] }
  for (const network of [{ rules }, { allowOut: ['example.org'] }, { denyOut: ['example.org'] }]) {
    await assert.rejects(sandbox.updateNetwork(network), /network/)
    await assert.rejects(sdk.Sandbox.updateNetwork(sandbox.sandboxId, network), /network/)
  }
})
