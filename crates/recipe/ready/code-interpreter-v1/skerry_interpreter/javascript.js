// The driver of Node.js, for JavaScript and TypeScript: reads code from the socket whose number is its argument, and says there what comes of it.
'use strict';

const net = require('net');
const repl = require('repl');
const ts = require('typescript');
const vm = require('vm');
const { PassThrough } = require('stream');
const { inspect } = require('util');

const socket = new net.Socket({ fd: Number(process.argv[2]) });
// Node's own interpreter knows how to await at the top level; nobody types into it.
const interpreter = repl.start({ input: new PassThrough(), output: new PassThrough(), prompt: '', useGlobal: true, terminal: false });
// What runs inside of this script ends at a signal, even if it only computes.
const guard = new vm.Script("globalThis[Symbol.for('skerry.cell')]()");

const say = (message) => socket.write(JSON.stringify(message) + '\n');

/** An object whose keys are types of content is shown as those, anything else as text. */
function shown(value) {
  const isContent = value && typeof value === 'object' && Object.keys(value).length > 0 && Object.keys(value).every((key) => /^[a-z]+\/[\w.+-]+$/.test(key));
  return isContent ? value : { 'text/plain': typeof value === 'string' ? value : inspect(value) };
}

global.display = (value) => say({ type: 'result', is_main: false, content: shown(value) });

/** What an import asks for, as one that can be done again and at any time. */
function imported(statement) {
  const from = `await import(${statement.moduleSpecifier.getText()})`;
  const clause = statement.importClause;
  if (!clause) return `${from};`;
  if (clause.isTypeOnly) return '';
  const names = [];
  if (clause.name) names.push(`default: ${clause.name.text}`);
  const bindings = clause.namedBindings;
  if (bindings && ts.isNamedImports(bindings)) {
    const values = bindings.elements.filter((one) => !one.isTypeOnly);
    names.push(...values.map((one) => (one.propertyName ? `${one.propertyName.text}: ${one.name.text}` : one.name.text)));
  }
  const whole = bindings && ts.isNamespaceImport(bindings) ? `var ${bindings.name.text} = ${from};` : '';
  return whole + (names.length > 0 ? `var { ${names.join(', ')} } = ${from};` : '');
}

/** Declarations at the top level are made such that a later cell can make them again. */
function declared(source, statement) {
  const text = source.text.slice(statement.getStart(source), statement.end);
  if (ts.isImportDeclaration(statement)) return imported(statement);
  if (ts.isClassDeclaration(statement) && statement.name) return `var ${statement.name.text} = ${text};`;
  if (ts.isVariableStatement(statement)) return text.replace(/^(const|let)\b/, 'var');
  return text;
}

/** What is given to the interpreter. */
function prepared(code, language) {
  let script = code;
  if (language === 'typescript') {
    const compilerOptions = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, isolatedModules: true, preserveValueImports: true };
    script = ts.transpileModule(code, { compilerOptions }).outputText.replace(/^export \{\};$/m, '');
  }
  const source = ts.createSourceFile('cell.js', script, ts.ScriptTarget.ES2022, true, ts.ScriptKind.JS);
  let [done, text] = [0, ''];
  for (const statement of source.statements) {
    const start = statement.getStart(source);
    text += script.slice(done, start) + declared(source, statement);
    done = statement.end;
  }
  return text + script.slice(done);
}

function failed(thrown) {
  // A mistake in the code comes wrapped, because a person might go on typing.
  const error = thrown instanceof repl.Recoverable ? thrown.err : thrown;
  const isError = error && typeof error === 'object' && 'message' in error;
  const [name, value] = isError ? [error.name, error.message] : ['Error', inspect(error)];
  say({ type: 'error', name: String(name), value: String(value), traceback: String((isError && error.stack) || value) });
}

/** Sets variables of the environment; gives what sets them back. */
function environment(env) {
  const before = Object.keys(env).map((name) => [name, process.env[name]]);
  Object.assign(process.env, env);
  return () => {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  };
}

/** The cell that is run, told how it ended. */
let running = null;

/** Nobody waits any more for what the cell waits for. */
function interrupt() {
  if (running) running(new Error('it was interrupted'));
}

function run({ code, env, language }) {
  const reset = environment(env);
  const done = (thrown, value) => {
    if (running !== done) return;
    running = null;
    reset();
    if (thrown) failed(thrown);
    else if (value !== undefined) say({ type: 'result', is_main: true, content: shown(value) });
    say({ type: 'done' });
  };
  running = done;
  try {
    const script = prepared(code, language);
    global[Symbol.for('skerry.cell')] = () => interpreter.eval(script, interpreter.context, 'cell.js', done);
    guard.runInThisContext({ breakOnSigint: true });
  } catch (thrown) {
    done(thrown);
  }
}

process.on('SIGINT', interrupt);
process.on('unhandledRejection', (thrown) => console.error(thrown));
// What a cell throws the interpreter says to its domain. What nobody waits for any more is shown, and ends nothing.
interpreter._domain.removeAllListeners('error');
interpreter._domain.on('error', (thrown) => (running ? running(thrown) : console.error(thrown)));

let heard = Buffer.alloc(0);
socket.on('data', (data) => {
  heard = Buffer.concat([heard, data]);
  for (let end = heard.indexOf(0); end >= 0; end = heard.indexOf(0)) {
    const request = JSON.parse(heard.subarray(0, end));
    heard = heard.subarray(end + 1);
    if (request.give_up) interrupt();
    else run(request);
  }
});
socket.on('end', () => process.exit());
