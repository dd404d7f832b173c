// Runs a package manager in this function's sandbox and hands over what it has made, piece by piece.
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');

const WORK = '/tmp/work';
const ARCHIVE = '/tmp/made.tar';

/** The project's own scripts want the project, which is not here; those of packages run. */
function dropScripts(file) {
  try {
    const { scripts, ...rest } = JSON.parse(fs.readFileSync(file, 'utf8'));
    if (scripts) fs.writeFileSync(file, JSON.stringify(rest));
  } catch {
    // npm says what is wrong with it.
  }
}

exports.handler = async (event) => {
  if (event.op === 'read') {
    const archive = fs.openSync(ARCHIVE, 'r');
    const piece = Buffer.alloc(event.size);
    const read = fs.readSync(archive, piece, 0, event.size, event.offset);
    fs.closeSync(archive);
    return { data: piece.toString('base64', 0, read) };
  }
  fs.rmSync(WORK, { recursive: true, force: true });
  fs.cpSync('project', WORK, { recursive: true });
  dropScripts(`${WORK}/package.json`);
  const env = { ...process.env, ...event.env, HOME: '/tmp' };
  let said = '';
  for (const step of [...event.steps, ['tar', '-cf', ARCHIVE, ...event.collect]]) {
    const [program, ...rest] = step.map((word) => (word === '{interpreter}' ? process.execPath : word));
    const options = { cwd: WORK, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 64 << 20 };
    const done = spawnSync(program, rest, options);
    if (done.error && done.error.code === 'ENOENT') return { missing: program, said };
    said = (said + (done.stdout || '') + (done.stderr || '')).slice(-20000);
    if (done.status !== 0) return { code: done.status, signal: done.signal, said };
  }
  return { code: 0, said, size: fs.statSync(ARCHIVE).size };
};
