/** Which public methods the installed client has, and which of them a test really called, with the client's code left alone. */

import { existsSync, readFileSync, realpathSync, writeFileSync } from 'node:fs'
import { Session } from 'node:inspector'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import ts from 'typescript'

/** As a user writes them: these are no exports but what a sandbox gives. */
const SHOWN: Record<string, string> = {
  Filesystem: 'sandbox.files', Commands: 'sandbox.commands', Pty: 'sandbox.pty', Git: 'sandbox.git', TemplateBase: 'Template',
}
/** Data, errors and the client's own transport: not what a program speaks to. */
const LEFT_OUT = /^(default|ApiClient|ConnectionConfig|VolumeConnectionConfig|ReadyCmd|LogEntry.*|OutputMessage|.*Error)$/

/** The package whose methods these are: the one for the code interpreter has all that the other has, and a sandbox of its own. */
export const client = isThere('@e2b/code-interpreter') ? '@e2b/code-interpreter' : 'e2b'

const program = realpathSync(fileURLToPath(import.meta.resolve(client)))

function isThere(name: string): boolean {
  try {
    return existsSync(fileURLToPath(import.meta.resolve(name)))
  } catch {
    return false
  }
}

/** `Class.method` as it is in the program text → its name for a user. */
function surface(): Map<string, string> {
  const options = { skipLibCheck: true, types: [], module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext }
  const types = join(dirname(program), 'index.d.ts')
  const compiled = ts.createProgram([types], options)
  const checker = compiled.getTypeChecker()
  const found = new Map<string, string>()
  const source = compiled.getSourceFile(types)
  for (let symbol of checker.getExportsOfModule(checker.getSymbolAtLocation(source!)!)) {
    const name = symbol.name
    if (LEFT_OUT.test(name)) continue
    if (symbol.flags & ts.SymbolFlags.Alias) symbol = checker.getAliasedSymbol(symbol)
    const declared = symbol.valueDeclaration
    if (declared && !isOurs(declared)) continue
    if (declared && ts.isFunctionDeclaration(declared) && name !== 'Template') found.set(name, name)
    if (!declared || !ts.isClassDeclaration(declared)) continue
    const own = methods(checker.getDeclaredTypeOfSymbol(symbol))
    const ofClass = methods(checker.getTypeOfSymbol(symbol))
    const shown = SHOWN[name] ?? name
    for (const [method, owner] of own) found.set(`${owner}.${method}`, `${shown}.${method}`)
    for (const [method, owner] of ofClass) {
      found.set(`static ${owner}.${method}`, own.has(method) ? `${shown}.${method}(id)` : `${shown}.${method}`)
    }
  }
  return found
}

/** It is the package's own, and not what it took over from the other. */
function isOurs(declared: ts.Node): boolean {
  return client === 'e2b' || declared.getSourceFile().fileName.includes(client)
}

/** The public methods of a type, and the class that has each. */
function methods(type: ts.Type): Map<string, string> {
  const found = new Map<string, string>()
  for (const property of type.getProperties()) {
    const declared = property.valueDeclaration
    if (!declared || !(ts.isMethodDeclaration(declared) && ts.isClassDeclaration(declared.parent))) continue
    if (!isOurs(declared)) continue
    const hidden = ts.ModifierFlags.Private | ts.ModifierFlags.Protected
    if (!(ts.getCombinedModifierFlags(declared) & hidden)) found.set(property.name, declared.parent.name!.text)
  }
  return found
}

/** Where each function of the client ends in its text, which is how the engine names it too. */
function ends(): Map<number, string> {
  const found = new Map<number, string>()
  const source = ts.createSourceFile(program, readFileSync(program, 'utf8'), ts.ScriptTarget.Latest, true)
  const visit = (node: ts.Node, owner: string) => {
    if (ts.isClassLike(node)) {
      const name = node.name ?? (ts.isVariableDeclaration(node.parent) ? (node.parent.name as ts.Identifier) : undefined)
      // A bundler puts these around names that are taken.
      owner = name?.text.replace(/^_|\d$/g, '') ?? owner
    }
    if (ts.isMethodDeclaration(node) && ts.isIdentifier(node.name) && ts.isClassLike(node.parent)) {
      const still = ts.getCombinedModifierFlags(node) & ts.ModifierFlags.Static ? 'static ' : ''
      found.set(node.end, `${still}${owner}.${node.name.text}`)
    } else if (ts.isFunctionDeclaration(node) && node.name) {
      found.set(node.end, node.name.text)
    }
    ts.forEachChild(node, (child) => visit(child, owner))
  }
  visit(source, '')
  return found
}

const names = surface()
const places = ends()
const passed = new Set<string>()
const failed = new Set<string>()
const session = new Session()
session.connect()
post('Profiler.enable')
post('Profiler.startPreciseCoverage', { callCount: true, detailed: false })

function post(method: string, parameters?: object): any {
  let answer: any
  // The inspector of this very process answers before `post` returns.
  session.post(method, parameters, (error: Error | null, result: unknown) => {
    if (error) throw error
    answer = result
  })
  return answer
}

/** Books what was called since the last time. */
export function book(well: boolean): void {
  for (const script of post('Profiler.takePreciseCoverage').result) {
    if (script.url !== pathToFileURL(program).href) continue
    for (const { ranges } of script.functions) {
      const name = names.get(places.get(ranges[0].endOffset) ?? '')
      if (name && ranges[0].count > 0) (well ? passed : failed).add(name)
    }
  }
}

/** Writes what came of each method, for the table. */
export function report(): void {
  const said = [...names.values()].map((name) => {
    return [name, passed.has(name) ? 'passed' : failed.has(name) ? 'failed' : 'never called']
  })
  if (process.env.SKERRY_E2B_REPORT) writeFileSync(process.env.SKERRY_E2B_REPORT, JSON.stringify(Object.fromEntries(said)))
}
