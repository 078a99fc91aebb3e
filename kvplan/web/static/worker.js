// Runs the planner in the browser: Python by Pyodide, in a thread of its own, so that the page stays awake.
import { loadPyodide } from "../pyodide/pyodide.mjs";

const PLACE = "/home/pyodide/code";
const KEPT = "kvplan-compiled"; // what Python compiled at the first visit, so that the next one starts sooner
const mark = new URL(`../compiled-${new URL(import.meta.url).searchParams.get("code")}`, import.meta.url).href;
const SETTLE = `
import os, sys
for at, _, names in os.walk("${PLACE}"):
    for name in names:
        os.utime(os.path.join(at, name), (10**9, 10**9))  # compiled files name the time of their source
sys.path.insert(0, "${PLACE}")
`;
const COMPILED = `
import io, os, zipfile
def compiled():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for at, _, names in os.walk("${PLACE}"):
            for name in names:
                if name.endswith((".pyc", ".cache")):  # modules and templates
                    path = os.path.join(at, name)
                    archive.write(path, os.path.relpath(path, "${PLACE}"))
    return out.getvalue()
compiled()
`;

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
  const bytes = python.runPython(COMPILED);
  try {
    const store = await caches.open(KEPT);
    for (const old of await store.keys()) await store.delete(old);
    await store.put(mark, new Response(bytes.toJs()));
  } catch { /* the next visit compiles again */ } finally { bytes.destroy(); }
};

const started = (async () => {
  const code = whole(fetch(new URL("../kvplan.zip", import.meta.url)));
  const before = recalled();
  const python = await loadPyodide({ indexURL: new URL("../pyodide/", import.meta.url).href });
  python.unpackArchive(await code, "zip", { extractDir: PLACE });
  python.runPython(SETTLE);
  const known = await before;
  if (known) python.unpackArchive(known, "zip", { extractDir: PLACE });
  const { respond } = python.pyimport("kvplan.web.inpage");
  python.pyimport("kvplan.web.screens").keep_templates(`${PLACE}/templates`);
  if (!known) setTimeout(() => keep(python), 1000);
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
