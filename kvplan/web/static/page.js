// Asks for the answer again when a control changes, and keeps the address in step. Without this file the form does it.
"use strict";
window.kvplanPage = () => {
  const form = document.getElementById("ask");
  if (!form) return;
  window.kvplanGone?.abort(); // listeners of a page that this one stands in place of
  window.kvplanGone = new AbortController();
  const here = { signal: window.kvplanGone.signal };
  const get = window.kvplanAsk ?? ((address, options) => fetch(address, options)); // without a server the planner runs here
  const answer = document.getElementById("answer");
  const base = form.dataset.base;
  const HEADER_BYTES = 14 * 1024 * 1024; // of a GGUF file: its metadata and tensor table, with the largest vocabularies
  let asked = 0;
  let header = null; // of the file that was dropped: {name, size, blob}

  const query = () => {
    const found = new URLSearchParams();
    for (const [name, value] of new FormData(form)) if (value.trim()) found.append(name, value.trim());
    if (header) { found.delete("model"); found.delete("config"); }
    return found;
  };

  // The verdict stays the same element: a screen reader says what changes in it, and not what is put in its place.
  const put = (made) => {
    const kept = answer.querySelector("#verdict"), fresh = made.querySelector("#verdict");
    if (!kept || !fresh) return answer.replaceChildren(made);
    kept.className = fresh.className;
    if (kept.textContent !== fresh.textContent) kept.textContent = fresh.textContent;
    fresh.remove();
    for (const one of [...answer.childNodes]) if (one !== kept) one.remove();
    answer.append(made);
  };

  const show = (html) => {
    const open = [...answer.querySelectorAll("details[open] > summary")].map((one) => one.textContent);
    const made = document.createElement("template");
    made.innerHTML = html;
    put(made.content);
    for (const one of answer.querySelectorAll("details > summary")) if (open.includes(one.textContent)) one.parentElement.open = true;
    answer.dataset.asked = String(asked);
  };

  const wrong = (words) => {
    const made = document.createDocumentFragment();
    made.append(Object.assign(document.createElement("p"), { className: "verdict no", id: "verdict", role: "status", textContent: words }));
    put(made);
  };

  const send = async (address, options) => {
    const mine = ++asked;
    try {
      const response = await get(address, options);
      const text = await response.text();
      if (mine !== asked) return; // a later question is under way
      if (response.ok) show(text);
      else wrong(JSON.parse(text).detail);
    } catch {
      if (mine === asked) wrong("the server does not answer; is kvplan web still running?");
    }
  };

  const ask = () => {
    const found = query();
    if (header) {
      found.set("name", header.name);
      found.set("size", String(header.size));
      return send(`${base}gguf?${found}`, { method: "POST", body: header.blob, headers: { "Content-Type": "application/octet-stream" } });
    }
    history.replaceState(null, "", `${base}?${found}`);
    return send(`${base}answer?${found}`);
  };

  let waiting = 0;
  form.addEventListener("input", (event) => {
    if (event.target.type === "file") return;
    if (["model", "config"].includes(event.target.name)) { header = null; document.getElementById("dropped").textContent = ""; }
    clearTimeout(waiting);
    waiting = setTimeout(ask, 25);
  });
  form.addEventListener("submit", (event) => { event.preventDefault(); ask(); });

  const take = async (file) => {
    const said = document.getElementById("dropped");
    said.textContent = file.name;
    if (/\.gguf$/i.test(file.name)) {
      header = { name: file.name, size: file.size, blob: file.slice(0, HEADER_BYTES) };
      said.textContent = `${file.name}: its header is read; the address does not hold it`;
      return ask();
    }
    if (/\.json$/i.test(file.name)) {
      form.elements.config.value = await file.text();
      header = null;
      return ask();
    }
    const found = new URLSearchParams();
    if (form.elements.gpu.value.trim()) found.set("gpu", form.elements.gpu.value.trim());
    const log = file.slice(0, 15 * 1024 * 1024);
    return send(`${base}reconcile?${found}`, { method: "POST", body: log, headers: { "Content-Type": "text/plain" } });
  };

  const drop = document.getElementById("drop");
  drop.hidden = false;
  document.getElementById("file").addEventListener("change", (event) => { if (event.target.files[0]) take(event.target.files[0]); });
  for (const name of ["dragenter", "dragover"]) document.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); }, here);
  for (const name of ["dragleave", "drop"]) document.addEventListener(name, () => drop.classList.remove("over"), here);
  document.addEventListener("drop", (event) => { event.preventDefault(); if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]); }, here);
};
window.kvplanPage();
