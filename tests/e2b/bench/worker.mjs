// One contestant in JavaScript: reads how to do a round from stdin, does it, writes what it took in milliseconds.
// usage: worker.mjs sdk|v1 FOLDER-OF-THE-SDK

import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'

const ECHOS = 25

class Sdk {
  #Sandbox = createRequire(`${process.argv[3]}/`)('e2b').Sandbox
  #sandbox

  async create() {
    this.#sandbox = await this.#Sandbox.create('base')
  }

  async echo() {
    const { stdout } = await this.#sandbox.commands.run('echo hi')
    if (stdout !== 'hi\n') throw new Error(`it said ${stdout}`)
  }

  async kill() {
    await this.#sandbox.kill()
  }
}

class V1 {
  #path

  async #ask(method, path, body) {
    const headers = { authorization: `Bearer ${process.env.SKERRY_API_KEY}`, 'content-type': 'application/json' }
    const answer = await fetch(process.env.SKERRY_URL + path, { method, headers, body: body && JSON.stringify(body) })
    const said = await answer.json()
    if (!answer.ok) throw new Error(JSON.stringify(said))
    return said
  }

  async create() {
    this.#path = `/v1/sandboxes/${(await this.#ask('POST', '/v1/sandboxes', { image: 'base' })).sandbox_id}`
  }

  async echo() {
    const done = await this.#ask('POST', `${this.#path}/exec`, { cmd: ['/bin/bash', '-l', '-c', 'echo hi'] })
    if (done.stdout !== 'hi\n') throw new Error(`it said ${done.stdout}`)
  }

  async kill() {
    await this.#ask('DELETE', this.#path)
  }
}

const way = process.argv[2] === 'sdk' ? new Sdk() : new V1()
for await (const _round of createInterface({ input: process.stdin })) {
  const begun = performance.now()
  await way.create()
  await way.echo()
  const first = performance.now()
  for (let n = 0; n < ECHOS; n++) await way.echo()
  const echoed = performance.now()
  await way.kill()
  const ended = performance.now()
  console.log(JSON.stringify({ life: first - begun + (ended - echoed), echos: echoed - first }))
}
