/** What every test has: sandboxes that go away again, and a note of what was called. */

import { test } from 'node:test'
import { book, client } from './methods.js'

const TEST_MS = 90_000

/** The client. What only some versions have is not in the types of all. */
export const sdk: any = await import(client)

type Bed = { make: (...args: any[]) => Promise<any>; skip: (why: string) => never }

class Skipped extends Error {}

/** A test with a way to make sandboxes, which are killed when it is over. */
export function check(name: string, body: (bed: Bed) => Promise<void>): void {
  if (process.env.SKERRY_E2B_TESTS && !name.includes(process.env.SKERRY_E2B_TESTS)) return
  test(name, { timeout: TEST_MS }, async (context) => {
    const made: string[] = []
    const make = async (...args: any[]) => {
      const options = typeof args.at(-1) === 'object' ? args.pop() : {}
      const sandbox = await sdk.Sandbox.create(...args, { timeoutMs: 120_000, ...options })
      made.push(sandbox.sandboxId)
      return sandbox
    }
    const skip = (why: string): never => {
      throw new Skipped(why)
    }
    let well = false
    try {
      await body({ make, skip })
      well = true
    } catch (error) {
      if (!(error instanceof Skipped)) throw error
      context.skip(error.message)
    } finally {
      book(well)
      for (const id of made) await sdk.Sandbox.kill(id)
      book(true)
    }
  })
}

/** Asks until the answer is true. */
export async function until(what: string, answer: () => unknown): Promise<void> {
  const limit = Date.now() + 20_000
  while (!(await answer())) {
    if (Date.now() > limit) throw new Error(`never: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
