/** Templates: described in the client, built by the server, started, tagged. */

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { check, sdk } from './bed.js'

const { Template } = sdk
const name = () => `made-${randomBytes(4).toString('hex')}`
const build = (template: any, alias: string, more = {}) => Template.build(template, { alias, cpuCount: 1, memoryMB: 512, ...more })

async function remove(built: any): Promise<void> {
  const headers = { 'X-API-Key': process.env.E2B_API_KEY! }
  const answer = await fetch(`${process.env.SKERRY_URL}/templates/${built.templateId}`, { method: 'DELETE', headers })
  assert.equal(answer.status, 204)
}

check('a template is built and started', async ({ make }) => {
  const folder = mkdtempSync(join(tmpdir(), 'context-'))
  mkdirSync(join(folder, 'app'))
  writeFileSync(join(folder, 'app', 'one.txt'), '1')
  writeFileSync(join(folder, 'two.txt'), '2')
  const logs: string[] = []
  const template = Template({ fileContextPath: folder })
    .fromTemplate('base')
    .setEnvs({ MADE: 'yes' })
    .setWorkdir('/srv/app')
    .copy('app', '/srv/app', { user: 'user' })
    .copyItems([{ src: 'two.txt', dest: '/srv/app/two.txt' }])
    .makeDir('/srv/app/new', { user: 'root' })
    .runCmd(['echo ran >/srv/app/ran', 'cp /srv/app/ran /srv/app/old'], { user: 'root' })
    .rename('/srv/app/old', '/srv/app/renamed', { user: 'root' })
    .makeSymlink('/srv/app/ran', '/srv/app/link', { user: 'root' })
    .runCmd('touch /srv/app/doomed', { user: 'root' })
    .remove('/srv/app/doomed', { user: 'root' })
    .setUser('user')
  const alias = name()
  const built = await build(template, alias, { onBuildLogs: (entry: any) => logs.push(String(entry)) })
  try {
    const sandbox = await make(alias)
    const seen = await sandbox.commands.run('cd /srv/app; echo $MADE; cat one.txt two.txt; cat link; ls')
    assert.equal(seen.stdout, 'yes\n12ran\nlink\nnew\none.txt\nran\nrenamed\ntwo.txt\n')
  } finally {
    await remove(built)
  }
})

check('a template runs its start command', async ({ make }) => {
  const alias = name()
  const template = Template().fromTemplate('base').setStartCmd('touch /tmp/up; exec sleep 100000', sdk.waitForFile('/tmp/up'))
  const built = await build(template, alias)
  try {
    const sandbox = await make(alias)
    await sandbox.commands.run("until pgrep -fx 'sleep 100000'; do sleep 0.05; done", { user: 'root', timeoutMs: 20_000 })
  } finally {
    await remove(built)
  }
})

check('a build says which step fails', async () => {
  const template = Template().fromTemplate('base').runCmd('echo oh no >&2; exit 7')
  await assert.rejects(build(template, name()), sdk.BuildError)
})

check('a build in the background, names and tags', async ({ make }) => {
  const alias = name()
  const template = Template().fromTemplate('base').runCmd('true').setReadyCmd(sdk.waitForTimeout(10))
  const info = await Template.buildInBackground(template, { alias, cpuCount: 1, memoryMB: 512, skipCache: true })
  let status: any = { status: 'waiting' }
  while (!['ready', 'error'].includes(status.status)) status = await Template.getBuildStatus(info)
  assert.equal(status.status, 'ready')
  try {
    if (Template.aliasExists) assert.equal(await Template.aliasExists(alias), true)
    if (Template.exists) {
      assert.equal(await Template.exists('no-such-template'), false)
      assert.equal(await Template.exists('base'), true)
    }
    if (!Template.assignTags) return
    await Template.assignTags(`${alias}:default`, ['stable', 'v1'])
    assert.ok((await make(`${alias}:stable`)).sandboxId)
    await Template.removeTags(alias, 'v1')
    const tags = (await Template.getTags(info.templateId)).map((tag: any) => tag.tag)
    assert.ok(tags.includes('stable') && !tags.includes('v1'))
  } finally {
    await remove(info)
  }
})

check('templates are described without a server', async () => {
  const described: [any, string][] = [
    [Template().fromImage('debian:12'), 'debian:12'],
    [Template().fromDebianImage('bookworm'), 'debian:bookworm'],
    [Template().fromUbuntuImage('24.04'), 'ubuntu:24.04'],
    [Template().fromPythonImage('3.12'), 'python:3.12'],
    [Template().fromNodeImage('22'), 'node:22'],
    [Template().fromBunImage('1'), 'oven/bun:1'],
  ]
  for (const [template, image] of described) {
    assert.ok((await Template.toJSON(template)).includes(image))
    assert.ok(Template.toDockerfile(template).startsWith(`FROM ${image}`))
  }
  for (const system of ['Alpine', 'Fedora', 'Arch']) {
    const from = Template()[`from${system}Image`]
    if (from) assert.ok((await Template.toJSON(from.call(Template()))).includes(system.toLowerCase()))
  }
  const credentials = { accessKeyId: 'id', secretAccessKey: 'secret', region: 'eu-west-1' }
  const json = async (template: any) => Template.toJSON(template)
  assert.ok((await json(Template().fromBaseImage())).includes('e2bdev/base'))
  assert.ok((await json(Template().fromAWSRegistry('1.dkr.ecr.eu-west-1.amazonaws.com/app:1', credentials))).includes('"aws"'))
  assert.ok((await json(Template().fromGCPRegistry('gcr.io/app:1', { serviceAccountJSON: { project_id: 'x' } }))).includes('"gcp"'))
  assert.ok((await json(Template().fromDockerfile('FROM debian:12\nRUN true\n'))).includes('RUN'))
  const many = Template().fromImage('debian:12').skipCache().pipInstall('six').npmInstall('left-pad').bunInstall('left-pad')
  const said = await json(many.aptInstall(['curl']).gitClone('https://example.com/x.git', '/x'))
  for (const word of ['pip install', 'npm install', 'bun install', 'apt-get install', 'git clone']) assert.ok(said.includes(word), word)
  const dev = Template().fromTemplate('devcontainer')
  assert.ok((await json(dev.betaDevContainerPrebuild('/x'))).includes('devcontainer'))
  assert.ok((await json(Template().fromTemplate('devcontainer').betaSetDevContainerStart('/x'))).includes('devcontainer'))
  assert.ok((await json(Template().fromTemplate('mcp-gateway').addMcpServer('time'))).includes('mcp'))
  for (const ready of [sdk.waitForPort(80), sdk.waitForURL('http://localhost'), sdk.waitForProcess('sh')]) assert.ok(ready.getCmd())
  assert.equal(typeof sdk.defaultBuildLogger(), 'function')
})
