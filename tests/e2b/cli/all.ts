/** The command line of these clients, as a person types it. */

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const program = join(dirname(dirname(fileURLToPath(import.meta.url))), 'node_modules/.bin/e2b')
const home = mkdtempSync(join(tmpdir(), 'home-'))

function e2b(...words: string[]) {
  const env = { ...process.env, HOME: home, CI: '1', NO_COLOR: '1' }
  return spawnSync(process.execPath, [program, ...words], { env, cwd: home, encoding: 'utf8', timeout: 90_000 })
}

function ok(...words: string[]): string {
  const done = e2b(...words)
  assert.equal(done.status, 0, `${words.join(' ')}: ${done.stdout}${done.stderr}`)
  return done.stdout
}

test('sandboxes', () => {
  const id = /[a-z0-9]{20,}/.exec(ok('sandbox', 'create', 'base', '--detach', '--timeout', '120'))?.[0]
  assert.ok(id)
  try {
    assert.equal(ok('sandbox', 'exec', id, 'echo', 'from the command line'), 'from the command line\n')
    assert.equal(ok('sandbox', 'exec', '-u', 'root', '-c', '/tmp', '-e', 'A=b', id, 'sh', '-c', 'id -un; pwd; echo $A'), 'root\n/tmp\nb\n')
    const failed = e2b('sandbox', 'exec', id, 'sh', '-c', 'exit 7')
    assert.equal(failed.status, 7, failed.stdout + failed.stderr)
    const listed = JSON.parse(ok('sandbox', 'list', '--format', 'json'))
    assert.ok(listed.some((one: any) => one.sandboxId === id))
    assert.equal(JSON.parse(ok('sandbox', 'info', id, '--format', 'json')).sandboxId, id)
    ok('sandbox', 'metrics', id, '--format', 'json')
    ok('sandbox', 'logs', id)
    ok('sandbox', 'pause', id)
    assert.ok(ok('sandbox', 'list', '--state', 'paused').includes(id))
    ok('sandbox', 'resume', id)
    ok('sandbox', 'snapshot', 'create', id)
    const snapshots = JSON.parse(ok('sandbox', 'snapshot', 'list', id, '--format', 'json'))
    assert.equal(snapshots.length, 1)
    ok('sandbox', 'snapshot', 'delete', snapshots[0].snapshotId)
  } finally {
    ok('sandbox', 'kill', id)
  }
  assert.ok(!ok('sandbox', 'list').includes(id))
})

test('templates', () => {
  const name = `cli-${process.pid}`
  writeFileSync(join(home, 'Dockerfile'), 'FROM base\nRUN echo built >/tmp/built\n')
  const made = e2b('template', 'create', name, '--cpu-count', '1', '--memory-mb', '512')
  assert.equal(made.status, 0, made.stdout + made.stderr)
  try {
    assert.ok(ok('template', 'list').includes(name))
  } finally {
    ok('template', 'delete', '--yes', name)
  }
})
