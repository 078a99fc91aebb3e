// Runs the planner in the browser: Python by Pyodide, in a thread of its own, so that the page stays awake.
// The first visit keeps the memory of the started planner, and later ones begin with it.
import { loadPyodide } from "../pyodide/pyodide.mjs";
import createPyodideModule from "../pyodide/pyodide.asm.mjs";

const PLACE = "/home/pyodide/code";
const KEPT = "kvplan-started";
const PAGE_BYTES = 65536; // of WebAssembly's memory
const MOST_BYTES = 128 * 1024 * 1024; // a memory that a large file has blown up is not kept
const indexURL = new URL("../pyodide/", import.meta.url).href;
const mark = new URL(`../started-${new URL(import.meta.url).searchParams.get("code")}`, import.meta.url).href;

const whole = async (asked) => {
  const got = await asked;
  if (!got.ok) throw new Error(`${got.url}: ${got.status}`);
  return got.arrayBuffer();
};

const recalled = async () => {
  try {
    return await (await (await caches.open(KEPT)).match(mark))?.arrayBuffer();
  } catch {
    return undefined; // no cache here (a private window, or a page that is not secure): it starts as the first time
  }
};

const keep = async (python) => {
  try {
    python.runPython("import gc; from kvplan.web.inpage import warm; warm(); gc.collect()");
    const memory = python.makeMemorySnapshot();
    const store = await caches.open(KEPT);
    for (const old of await store.keys()) await store.delete(old);
    if (memory.length <= MOST_BYTES) await store.put(mark, new Response(memory));
  } catch (error) {
    console.info(`kvplan: the next visit starts as this one did: ${error}`);
  }
};

// Pyodide restores a memory only where it is as large as the one that was kept: it is grown before the start.
const restored = (memory) => loadPyodide({
  indexURL,
  _loadSnapshot: memory,
  createPyodideModule: (settings) => {
    const instantiate = settings.instantiateWasm;
    settings.instantiateWasm = (imports, done) => instantiate(imports, (instance, module) => {
      const lacking = memory.byteLength - instance.exports.memory.buffer.byteLength;
      if (lacking > 0) instance.exports.memory.grow(Math.ceil(lacking / PAGE_BYTES));
      done(instance, module);
    });
    return createPyodideModule(settings);
  },
});

const begun = async (code, memory) => {
  const python = await (memory ? restored(memory) : loadPyodide({ indexURL, createPyodideModule, _makeSnapshot: true }));
  python.unpackArchive(await code, "zip", { extractDir: PLACE }); // files are not in the memory
  if (!memory) python.runPython(`import sys; sys.dont_write_bytecode = True; sys.path.insert(0, "${PLACE}")`);
  return [python, python.pyimport("kvplan.web.inpage").respond];
};

const started = (async () => {
  const code = whole(fetch(new URL("../kvplan.zip", import.meta.url)));
  const memory = await recalled();
  if (memory) {
    try {
      return (await begun(code, memory))[1];
    } catch (error) {
      console.info(`kvplan: what was kept of an earlier visit does not start: ${error}`);
    }
  }
  const [python, respond] = await begun(code);
  setTimeout(() => keep(python), 1000);
  return respond;
})();

started.then(() => postMessage({ ready: true }), (error) => postMessage({ fault: String(error) }));

onmessage = async ({ data: { id, method, address, body, kind, base } }) => {
  try {
    const respond = await started;
    const found = respond(method, address, body ?? new Uint8Array(), kind, base);
    const [status, type, text] = found.toJs();
    found.destroy();
    postMessage({ id, status, type, text });
  } catch (error) {
    const detail = `the planner in this page failed: ${error}`.slice(0, 500);
    postMessage({ id, status: 500, type: "application/problem+json", text: JSON.stringify({ detail }) });
  }
};
