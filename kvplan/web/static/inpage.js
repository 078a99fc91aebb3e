// A page without a server: its questions go to the planner in worker.js, and its links and forms stay in the page.
"use strict";
(() => {
  const root = new URL("..", document.currentScript.src);
  const worker = new Worker(new URL(`worker.js?code=${document.currentScript.dataset.code}`, document.currentScript.src), { type: "module" });
  const waiting = new Map();
  let count = 0;

  const say = (words) => {
    let line = document.getElementById("starting");
    if (!line) {
      line = Object.assign(document.createElement("p"), { id: "starting", className: "note" });
      line.setAttribute("role", "status");
      document.querySelector("header").after(line);
    }
    line.textContent = words;
    line.hidden = !words;
  };

  worker.onmessage = ({ data }) => {
    if (data.ready) { document.documentElement.dataset.ready = "yes"; say(""); return; }
    if (data.fault) { say(`The planner does not start in this browser: ${data.fault}`); return; }
    waiting.get(data.id)(data);
    waiting.delete(data.id);
  };
  worker.onerror = (error) => say(`The planner does not start in this browser: ${error.message ?? "worker.js"}`);

  const ask = (method, url, body, kind) => new Promise((done) => {
    const id = ++count;
    waiting.set(id, done);
    worker.postMessage({ id, method, address: url.href.slice(root.href.length), body, kind, base: root.pathname });
  });

  // As fetch does, for page.js.
  window.kvplanAsk = async (address, options = {}) => {
    const body = options.body ? new Uint8Array(await new Response(options.body).arrayBuffer()) : undefined;
    const kind = options.headers?.["Content-Type"] ?? "";
    const found = await ask(options.method ?? "GET", new URL(address, location.href), body, kind);
    return { ok: found.status < 400, status: found.status, text: async () => found.text };
  };

  const put = (found, anchor) => {
    const made = new DOMParser().parseFromString(found.text, "text/html");
    if (found.status >= 400) made.body.innerHTML = "<main></main>";
    const main = made.querySelector("main");
    if (found.status >= 400) main.append(Object.assign(made.createElement("p"), { className: "verdict no", textContent: JSON.parse(found.text).detail }));
    document.querySelector("main").replaceWith(main);
    if (made.title) document.title = made.title;
    window.kvplanPage?.();
    if (anchor) scrollTo(0, 0);
  };

  const go = async (url, { method = "GET", body, kind = "", remember = true } = {}) => {
    const slow = setTimeout(() => say("working ..."), 500);
    const found = await ask(method, url, body, kind);
    clearTimeout(slow);
    if (document.documentElement.dataset.ready) say("");
    if (remember) history.pushState(null, "", url);
    put(found, remember);
  };

  const save = async (url) => {
    const found = await ask("GET", url);
    const link = document.createElement("a");
    const name = url.pathname.split("/").pop();
    link.href = URL.createObjectURL(new Blob([found.text], { type: found.type }));
    link.download = `${name}.${found.type === "text/csv" ? "csv" : "json"}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  const ours = (url) => url.href.startsWith(root.href) && !/^(static|pyodide)\//.test(url.href.slice(root.href.length));

  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
    const url = new URL(link.href);
    if (!ours(url) || url.protocol === "blob:" || (url.hash && url.pathname === location.pathname)) return;
    event.preventDefault();
    if (url.href.slice(root.href.length).startsWith("api/")) save(url);
    else go(url);
  });
  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented) return;
    const url = new URL(event.target.action);
    if (!ours(url)) return;
    event.preventDefault();
    const fields = new URLSearchParams(new FormData(event.target));
    if (event.target.method === "post") {
      go(url, { method: "POST", body: new TextEncoder().encode(fields), kind: "application/x-www-form-urlencoded" });
    } else {
      url.search = String(fields);
      go(url);
    }
  });
  addEventListener("popstate", () => go(new URL(location.href), { remember: false }));

  say("Starting the planner in this page ...");
  if (location.search) go(new URL(location.href), { remember: false });
})();
