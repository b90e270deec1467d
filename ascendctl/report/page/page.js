"use strict";
(() => {
  // Texts of hosts reach the page through textContent and fillText only: they can never become markup.
  const byId = (id) => document.getElementById(id);
  const block = (id) => JSON.parse(byId(id).textContent);
  const WORDS = block("words"), HOSTS = block("cells"), REST = block("rest"), META = REST.meta;
  const PAGE_OF_FINDINGS = 50, PAGE_OF_CELLS = 20, MOST_DEVICES = 64, PAPER = 640;

  // One entry per look; of several on one part, the first in this order shows. Paths on a 16 x 16 field.
  const MARKS = [
    { letter: "f", word: "fail", path: "M2 .5h12a1.5 1.5 0 0 1 1.5 1.5v12a1.5 1.5 0 0 1-1.5 1.5H2A1.5 1.5 0 0 1 .5 14V2A1.5 1.5 0 0 1 2 .5zM4.7 3 3 4.7 6.3 8 3 11.3 4.7 13 8 9.7l3.3 3.3 1.7-1.7L9.7 8 13 4.7 11.3 3 8 6.3z" },
    { letter: "e", word: "error", path: "M4.7.5h6.6l4.2 4.2v6.6l-4.2 4.2H4.7L.5 11.3V4.7zM6.9 3v6h2.2V3zM6.9 10.6v2.2h2.2v-2.2z" },
    { letter: "u", word: "unknown", path: "M8 .2 15.8 8 8 15.8.2 8z" },
    { letter: "k", word: "unlooked", path: "M8 .2 15.8 8 8 15.8.2 8zM8 3.6 3.6 8 8 12.4 12.4 8z" },
    { letter: "w", word: "warn", path: "M8 1l7.6 14H.4zM7 6v4.4h2V6zM7 11.6v1.8h2v-1.8z" },
    { letter: "s", word: "skipped", path: "M1.5 2.5h3L8.4 8l-3.9 5.5h-3L5.4 8zM7.6 2.5h3L14.5 8l-3.9 5.5h-3L11.5 8z" },
    { letter: "v", word: "waived", path: "M.6 10.6C1.6 6 4.8 4.2 8.3 6.8c2.3 1.7 3.8 1.3 4.7-1.6l2.4.6c-1.2 4.9-4.5 6.2-8.2 3.6-2.2-1.6-3.6-1-4.2 1.8z" },
    { letter: "p", word: "pass", path: "M8 3.2a4.8 4.8 0 1 1 0 9.6 4.8 4.8 0 0 1 0-9.6z" },
    { letter: "n", word: "not-applicable", path: "M5.5 7.1h5v1.8h-5z" },
  ];
  const MARK_OF = new Map(MARKS.map((mark, rank) => [mark.letter, rank]));
  const STATUSES = ["fail", "error", "unknown", "warn", "skipped", "waived", "pass", "not-applicable"];
  const statusOf = (rank) => (MARKS[rank].word === "unlooked" ? "skipped" : MARKS[rank].word);
  const NONE = MARKS.length; // no cell at all
  const SHAPES = MARKS.map((mark) => new Path2D(mark.path));

  // --- words ---------------------------------------------------------------------------------------

  let language = "en";
  const numbersOf = new WeakMap(); // element -> the numbers in its words

  const grouped = (value) => (typeof value === "number" ? value.toLocaleString(language === "zh" ? "zh-CN" : "en-US") : value);
  function say(key, numbers = {}) {
    let text = WORDS[language][key];
    if (Array.isArray(text)) text = text[numbers.n === 1 ? 0 : 1];
    return text.replace(/\{(\w+)\}/g, (_, name) => grouped(numbers[name]));
  }
  function el(tag, className, ...children) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    made.append(...children.filter((child) => child !== null));
    return made;
  }
  function worded(tag, key, numbers, className) {
    const made = el(tag, className);
    setWord(made, key, numbers);
    return made;
  }
  function setWord(element, key, numbers) {
    element.dataset.word = key;
    numbersOf.set(element, numbers);
    element.textContent = say(key, numbers);
  }
  function mark(rank) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    const word = rank === NONE ? "nothing" : MARKS[rank].word;
    svg.setAttribute("class", "mark");
    svg.setAttribute("viewBox", "0 0 16 16");
    svg.setAttribute("role", "img");
    svg.dataset.wordLabel = word;
    svg.setAttribute("aria-label", say(word));
    path.setAttribute("d", rank === NONE ? "" : MARKS[rank].path);
    path.setAttribute("fill-rule", "evenodd");
    path.style.fill = `var(--${word})`;
    svg.append(path);
    return svg;
  }
  function setLanguage(next) {
    language = next in WORDS ? next : "en";
    document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
    for (const element of document.querySelectorAll("[data-word]")) {
      element.textContent = say(element.dataset.word, numbersOf.get(element));
    }
    for (const element of document.querySelectorAll("[data-word-label]")) {
      element.setAttribute("aria-label", say(element.dataset.wordLabel));
    }
    for (const element of document.querySelectorAll("[data-word-hint]")) {
      element.setAttribute("placeholder", say(element.dataset.wordHint));
    }
    showVerdict();
    layMap();
  }

  // --- cells: flat arrays by cell number -----------------------------------------------------------

  const rows = []; // {host, data, start}
  const rowsOfHost = HOSTS.map(() => []);
  let total = 0;
  HOSTS.forEach((host, index) => {
    for (const data of host[5]) {
      const row = { host: index, data, start: total };
      rowsOfHost[index].push(row);
      rows.push(row);
      total += data[4].length;
    }
  });
  const ranks = new Uint8Array(total), checks = new Uint16Array(total);
  for (const { data, start } of rows) {
    const shape = REST.shapes[data[3]];
    for (let i = 0; i < data[4].length; i++) {
      ranks[start + i] = MARK_OF.get(data[4][i]);
      checks[start + i] = shape[i];
    }
  }
  const searchable = HOSTS.map((host) => `${host[0] ?? ""}\n${host[1]}`.toLowerCase());
  const hostCount = HOSTS.filter((host) => host[0] !== null).length;

  function rowOf(cell) {
    let low = 0, high = rows.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (rows[middle].start <= cell) low = middle; else high = middle - 1;
    }
    return rows[low];
  }
  const text = (number) => REST.strings[number];
  function cellText(cell) {
    const row = rowOf(cell), place = cell - row.start;
    const telling = row.data[5][place] < 0 ? null : REST.tellings[row.data[5][place]];
    const evidence = row.data[6] ? row.data[6][place] : undefined;
    const [message, expected, actual, consequence, remedy, command, cause] = (telling ?? []).map(text);
    return { row, left: telling === null, message, expected, actual, consequence, remedy, command, cause, evidence };
  }
  function hostName(index) {
    return HOSTS[index][0] === null ? worded("span", "beyond") : el("span", "", HOSTS[index][0]);
  }
  function partName(row) {
    if (row.data[0]) return el("span", "", row.data[0]);
    return row.data[1] < 0 ? worded("span", "whole_host") : worded("span", "device", { n: row.data[1] });
  }
  const FINDINGS = REST.findings.map(([section, letter, check, texts, places, placeCount, steps, explains, hides]) => {
    let cell = 0;
    const cells = Uint32Array.from(steps, (step) => (cell += step));
    const hosts = new Set();
    for (const each of cells) {
      const row = rowOf(each);
      hosts.add(row.host);
      if (row.data[2] >= 0) hosts.add(row.data[2]);
    }
    const [message, expected, actual, consequence, remedy, command] = texts.map(text);
    return { section, rank: MARK_OF.get(letter), check, message, expected, actual, consequence, remedy, command, places, placeCount, cells, hosts, explains, hides };
  });

  // --- filters, kept in the address ----------------------------------------------------------------

  const filter = { host: "", check: -1, statuses: new Set() };
  const filtered = () => filter.check >= 0 || filter.statuses.size > 0;

  function hostMatches(index) {
    const wanted = filter.host.toLowerCase().split(/[\s,]+/).filter(Boolean);
    return !wanted.length || wanted.some((word) => searchable[index].includes(word));
  }
  const cellMatches = (cell) =>
    (filter.check < 0 || checks[cell] === filter.check) &&
    (!filter.statuses.size || filter.statuses.has(statusOf(ranks[cell])));

  function findingMatches(finding) {
    return (filter.check < 0 || finding.check === filter.check) &&
      (!filter.statuses.size || filter.statuses.has(statusOf(finding.rank))) &&
      (!filter.host || [...finding.hosts].some(hostMatches));
  }
  function remember() {
    const state = new URLSearchParams();
    if (filter.host) state.set("host", filter.host);
    if (filter.check >= 0) state.set("check", REST.checks[filter.check]);
    if (filter.statuses.size) state.set("status", [...filter.statuses].join(","));
    state.set("lang", language);
    try { history.replaceState(null, "", `#${state}`); } catch { /* some viewers forbid it */ }
    try { localStorage.setItem("ascendctl-language", language); } catch { /* or this */ }
  }
  function recall() {
    const state = new URLSearchParams(location.hash.slice(1));
    let kept = null;
    try { kept = localStorage.getItem("ascendctl-language"); } catch { /* not allowed in this viewer */ }
    filter.host = state.get("host") ?? "";
    filter.check = REST.checks.indexOf(state.get("check"));
    filter.statuses = new Set((state.get("status") ?? "").split(",").filter((one) => STATUSES.includes(one)));
    return state.get("lang") ?? kept ?? (navigator.language.startsWith("zh") ? "zh" : "en");
  }
  function applyFilters() {
    byId("filter-host").value = filter.host;
    byId("filter-check").value = filter.check < 0 ? "" : String(filter.check);
    for (const chip of byId("filter-status").children) {
      chip.setAttribute("aria-pressed", String(filter.statuses.has(chip.dataset.status)));
    }
    remember();
    layMap();
    showFindings();
  }

  // --- first lines ---------------------------------------------------------------------------------

  function showVerdict() {
    const gap = META.silent || META.partly;
    const worst = { verdict_0: "p", verdict_1: "f", verdict_3: "u", verdict_4: "e", verdict_130: "u" }[META.verdict];
    const rank = MARK_OF.get(worst);
    const word = META.verdict === "verdict_0" && gap ? "verdict_0_gap" : META.verdict;
    byId("verdict").style.setProperty("--verdict", `var(--${MARKS[rank].word})`);
    byId("verdict").querySelector("h1").replaceChildren(mark(rank), worded("span", word));
    const parts = ["found", "beyond", "warned", "silent", "partly"].filter((name) => META[name])
      .map((name) => say(`why_${name}`, { n: META[name], total: hostCount }));
    if (!META.wanted) parts.unshift(say("why_nothing"));
    else if (!META.found && !META.beyond) parts.unshift(say("why_clean"));
    byId("verdict-why").textContent = parts.join(say("and"));
    const figure = (value, key, numbers) => el("li", "", el("b", "", grouped(value)), worded("span", key, numbers, "quiet"));
    byId("figures").replaceChildren(
      figure(hostCount, "figure_hosts"), figure(META.devices, "figure_devices"),
      figure(META.coverage, "figure_coverage"), figure(META.evaluated, "figure_cells", { total: META.wanted }),
      figure(META.duration_s, "figure_seconds"));
    byId("figures").children[3].title = say("cell_is");
    byId("when").textContent = META.started.replace("T", " ").replace("+00:00", " UTC");
    document.title = `ascendctl verify: ${say(word)}`;
    byId("foot").textContent = say("made_by", { version: META.version });
  }

  // --- the map: a few canvases, drawn when scrolled to ---------------------------------------------

  const PAD = 14, map = byId("map"), tiles = byId("tiles"), cursor = byId("cursor");
  let plan = null; // geometry and content of the map as laid out
  let place = { at: 0, device: -1 };

  function marksOf(index) {
    const devices = new Array(plan.devices).fill(NONE), exists = new Array(plan.devices).fill(false);
    let whole = NONE;
    for (const { data, start } of rowsOfHost[index]) {
      if (data[1] >= 0 && data[1] < plan.devices) exists[data[1]] = true;
      for (let cell = start; cell < start + data[4].length; cell++) {
        if (!cellMatches(cell)) continue;
        whole = Math.min(whole, ranks[cell]);
        const device = data[1];
        if (device >= 0 && device < plan.devices) devices[device] = Math.min(devices[device], ranks[cell]);
      }
    }
    return { index, whole, devices, exists };
  }
  function layMap(across = map.clientWidth - 2 * PAD) {
    let most = 0;
    for (const { data } of rows) if (data[1] >= most && data[1] < MOST_DEVICES) most = data[1] + 1;
    const size = hostCount <= 32 ? 22 : hostCount <= 200 ? 16 : 11;
    plan = { devices: most, size, step: size + (size > 12 ? 6 : 2), line: size + (size > 12 ? 10 : 6), font: size > 12 ? 13 : 11 };
    const peers = new Map();
    for (const { host, data, start } of rows) {
      if (data[2] < 0) continue;
      for (let cell = start; cell < start + data[4].length; cell++) {
        if (cellMatches(cell)) peers.set(data[2], Math.min(peers.get(data[2]) ?? NONE, ranks[cell]));
      }
    }
    plan.hosts = [];
    HOSTS.forEach((_, index) => {
      if (!hostMatches(index)) return;
      const marks = marksOf(index);
      marks.whole = Math.min(marks.whole, peers.get(index) ?? NONE);
      if (!filtered() || marks.whole < NONE) plan.hosts.push(marks);
    });
    const pen = document.createElement("canvas").getContext("2d");
    plan.family = getComputedStyle(document.body).fontFamily;
    pen.font = `${plan.font}px ${plan.family}`;
    let label = 30;
    for (const { index } of plan.hosts) label = Math.max(label, pen.measureText(nameOf(index)).width);
    plan.label = Math.min(Math.ceil(label), 190) + 10;
    plan.wide = plan.size + 8 + plan.label + Math.max(plan.devices * plan.step, 70) + 22;
    const room = Math.max(across, plan.wide);
    plan.columns = Math.max(1, Math.min(Math.floor((room + 22) / plan.wide), plan.hosts.length || 1, hostCount <= 32 ? 2 : 99));
    // Columns share the width that is left, up to a third more each.
    plan.wide = Math.max(plan.wide, Math.min(Math.floor((room + 22) / plan.columns), Math.floor(plan.wide * 4 / 3)));
    plan.head = plan.size > 12 && plan.devices ? 20 : 0;
    const lines = Math.ceil(plan.hosts.length / plan.columns);
    plan.perTile = Math.max(4, Math.floor(420 / plan.line));
    tiles.replaceChildren();
    watcher.disconnect();
    for (let first = 0; first < lines; first += plan.perTile) {
      const canvas = el("canvas");
      canvas.first = first;
      canvas.lines = Math.min(plan.perTile, lines - first);
      canvas.style.width = `${plan.wide * plan.columns}px`;
      canvas.style.height = `${canvas.lines * plan.line + (first ? 0 : plan.head)}px`;
      tiles.append(canvas);
      watcher.observe(canvas);
    }
    if (!plan.hosts.length) tiles.append(worded("p", "no_hosts", {}, "quiet"));
    const shownHosts = plan.hosts.filter(({ index }) => HOSTS[index][0] !== null).length;
    setWord(byId("map-count"), "showing_hosts", { n: shownHosts, total: hostCount });
    place = { at: Math.max(0, Math.min(place.at, plan.hosts.length - 1)), device: place.device };
    cursor.hidden = true;
    setWord(byId("map-info"), "map_info");
  }
  function nameOf(index) {
    return HOSTS[index][0] ?? say("beyond");
  }
  const watcher = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      if (isIntersecting) draw(target); else target.width = 0;
    }
  }, { root: map, rootMargin: "400px" });

  function draw(canvas, scale = Math.min(window.devicePixelRatio || 1, 2)) {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const colours = MARKS.map((one) => colour(one.word));
    const head = canvas.first ? 0 : plan.head;
    canvas.width = Math.ceil(plan.wide * plan.columns * scale);
    canvas.height = Math.ceil((canvas.lines * plan.line + head) * scale);
    const pen = canvas.getContext("2d");
    const stamp = (rank, x, y) => {
      if (rank === NONE) return;
      pen.setTransform(scale * plan.size / 16, 0, 0, scale * plan.size / 16, x * scale, y * scale);
      pen.fillStyle = colours[rank];
      pen.fill(SHAPES[rank], "evenodd");
      pen.setTransform(scale, 0, 0, scale, 0, 0);
    };
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.textBaseline = "middle";
    if (head) {
      pen.font = `11px ${plan.family}`;
      pen.fillStyle = colour("quiet");
      pen.textAlign = "center";
      for (let column = 0; column < plan.columns; column++) {
        for (let device = 0; device < plan.devices; device++) {
          pen.fillText(String(device), deviceLeft(column, device) + plan.size / 2, 9);
        }
      }
      pen.textAlign = "left";
    }
    pen.font = `${plan.font}px ${plan.family}`;
    for (let line = 0; line < canvas.lines; line++) {
      for (let column = 0; column < plan.columns; column++) {
        const shownHost = plan.hosts[(canvas.first + line) * plan.columns + column];
        if (!shownHost) continue;
        const { index, whole, devices, exists } = shownHost;
        const left = column * plan.wide, top = head + line * plan.line + (plan.line - plan.size) / 2;
        const middle = head + line * plan.line + plan.line / 2;
        stamp(whole, left, top);
        pen.fillStyle = colour("text");
        pen.fillText(fitting(pen, nameOf(index), plan.label - 10), left + plan.size + 8, middle);
        devices.forEach((rank, device) => {
          if (rank < NONE) return stamp(rank, deviceLeft(column, device), top);
          // A device that the filters leave nothing of keeps its place.
          pen.fillStyle = colour("line");
          if (exists[device]) pen.fillRect(deviceLeft(column, device) + plan.size / 2 - 1, middle - 1, 2, 2);
        });
        if (!HOSTS[index][3] && devices.every((rank) => rank >= MARK_OF.get("p"))) {
          pen.fillStyle = colour("quiet");
          pen.fillText(say("no_answer"), deviceLeft(column, 0), middle);
        }
      }
    }
  }
  const deviceLeft = (column, device) => column * plan.wide + plan.size + 8 + plan.label + device * plan.step;

  function fitting(pen, name, width) {
    if (pen.measureText(name).width <= width) return name;
    let keep = name.length;
    while (keep > 2 && pen.measureText(`${name.slice(0, keep >> 1)}…${name.slice(-(keep >> 1))}`).width > width) keep--;
    return `${name.slice(0, keep >> 1)}…${name.slice(-(keep >> 1))}`;
  }
  function placeAt(event) {
    const box = tiles.getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top - plan.head;
    const column = Math.floor(x / plan.wide), line = Math.floor(y / plan.line);
    const at = line * plan.columns + column;
    if (y < 0 || x < 0 || column >= plan.columns || at >= plan.hosts.length) return null;
    const device = Math.floor((x - deviceLeft(column, 0) + (plan.step - plan.size) / 2) / plan.step);
    return { at, device: known(at, device) ? device : -1 };
  }
  function known(at, device) {
    return device >= 0 && device < plan.devices && rowsOfHost[plan.hosts[at].index].some(({ data }) => data[1] === device);
  }
  function pointTo(next, scroll) {
    place = next;
    const { index, whole, devices } = plan.hosts[place.at];
    const column = place.at % plan.columns, line = Math.floor(place.at / plan.columns);
    const onDevice = place.device >= 0;
    cursor.hidden = false;
    cursor.style.left = `${PAD - 3 + (onDevice ? deviceLeft(column, place.device) : column * plan.wide)}px`;
    cursor.style.top = `${12 - 3 + plan.head + line * plan.line + (plan.line - plan.size) / 2}px`;
    cursor.style.width = `${(onDevice ? plan.size : plan.size + 4 + plan.label) + 6}px`;
    cursor.style.height = `${plan.size + 6}px`;
    if (scroll) cursor.scrollIntoView({ block: "nearest", inline: "nearest" });
    const rank = onDevice ? devices[place.device] : whole;
    let worst = "";
    for (const row of rowsOfHost[index]) {
      if (onDevice && row.data[1] !== place.device) continue;
      for (let cell = row.start; cell < row.start + row.data[4].length && !worst; cell++) {
        if (ranks[cell] === rank && rank < MARK_OF.get("p") && cellMatches(cell)) {
          worst = `: ${REST.checks[checks[cell]]}: ${cellText(cell).message ?? say("message_left_out")}`;
        }
      }
    }
    const info = byId("map-info");
    delete info.dataset.word;
    const where = nameOf(index) + (onDevice ? ` ${say("device", { n: place.device })}` : "");
    info.textContent = `${where}: ${say(rank === NONE ? "nothing" : MARKS[rank].word)}${worst}`;
  }
  function step(key) {
    let { at, device } = place;
    const last = plan.hosts.length - 1;
    const devicesOf = (host) => Array.from({ length: plan.devices }, (_, one) => one).filter((one) => known(host, one));
    const own = [-1, ...devicesOf(at)], now = own.indexOf(device);
    if (key === "ArrowRight") {
      if (now < own.length - 1) device = own[now + 1];
      else if (at < last) { at++; device = -1; }
    } else if (key === "ArrowLeft") {
      if (now > 0) device = own[now - 1];
      else if (at > 0) { at--; device = devicesOf(at).pop() ?? -1; }
    } else if (key === "ArrowDown") at = Math.min(last, at + plan.columns);
    else if (key === "ArrowUp") at = at - plan.columns < 0 ? at : at - plan.columns;
    else if (key === "Home") at = 0;
    else if (key === "End") at = last;
    pointTo({ at, device: known(at, device) ? device : -1 }, true);
  }
  map.addEventListener("keydown", (event) => {
    if (!plan.hosts.length) return;
    if (event.key === "Enter" || event.key === " ") openPanel(plan.hosts[place.at].index, place.device);
    else if (/^(Arrow|Home|End)/.test(event.key)) step(event.key);
    else return;
    event.preventDefault();
  });
  map.addEventListener("focus", () => {
    if (plan.hosts.length && map.matches(":focus-visible")) pointTo(place, false);
  });
  tiles.addEventListener("mousemove", (event) => {
    const over = placeAt(event);
    if (over) pointTo(over, false);
  });
  tiles.addEventListener("click", (event) => {
    const over = placeAt(event);
    if (!over) return;
    pointTo(over, false);
    openPanel(plan.hosts[over.at].index, over.device);
  });

  // --- one host or device, opened ------------------------------------------------------------------

  const panel = byId("panel");

  function openPanel(index, device) {
    const [name, group, type, , facts] = HOSTS[index];
    const close = worded("button", "close");
    close.type = "button";
    close.id = "panel-close";
    close.addEventListener("click", closePanel);
    const title = el("h2", "", mark(worstOf(index, device)), hostName(index), device < 0 ? null : worded("span", "device", { n: device }));
    panel.replaceChildren(el("div", "heading", title, close));
    const about = [["type", type], ["group", group]].filter(([, value]) => value);
    if (device >= 0) {
      const whole = worded("button", "whole");
      whole.type = "button";
      whole.addEventListener("click", () => openPanel(index, -1));
      panel.append(whole);
    } else if (name !== null && (about.length || facts.length)) {
      panel.append(folding(el("summary", "", worded("span", "facts")), () => {
        const list = el("dl", "rows");
        for (const [key, value] of about) list.append(worded("dt", key), el("dd", "", value));
        for (const [key, value] of facts) list.append(el("dt", "", text(key)), el("dd", "", text(value)));
        return [list];
      }));
    }
    panel.append(...cellsOf(index, device));
    panel.hidden = false;
    panel.scrollTop = 0;
    close.focus();
  }
  function worstOf(index, device) {
    let worst = NONE;
    for (const { data, start } of rowsOfHost[index]) {
      if (device >= 0 && data[1] !== device) continue;
      for (let cell = start; cell < start + data[4].length; cell++) worst = Math.min(worst, ranks[cell]);
    }
    return worst;
  }
  function cellsOf(index, device) {
    const told = [], calm = new Map();
    for (const row of rowsOfHost[index]) {
      if (device >= 0 && row.data[1] !== device) continue;
      for (let cell = row.start; cell < row.start + row.data[4].length; cell++) {
        if (ranks[cell] < MARK_OF.get("p")) told.push(cell);
        else {
          const key = `${ranks[cell]} ${checks[cell]}`;
          if (!calm.has(key)) calm.set(key, []);
          calm.get(key).push(cell);
        }
      }
    }
    told.sort((one, other) => ranks[one] - ranks[other] || one - other);
    const list = el("div");
    extend(list, told, PAGE_OF_FINDINGS, (cell) => cellItem(cell, device < 0));
    const lines = [...calm.values()].sort(([one], [other]) => ranks[one] - ranks[other]).map((cells) => {
      const said = cellText(cells[0]);
      const same = cells.every((cell) => cellText(cell).message === said.message);
      const what = said.left ? worded("span", "message_left_out") : el("span", "", same ? said.message : `${said.message} …`);
      const count = cells.length > 1 ? worded("span", "parts", { n: cells.length }, "quiet") : null;
      return el("div", "calm", mark(ranks[cells[0]]), el("span", "check", REST.checks[checks[cells[0]]]), what, count);
    });
    return [list, ...lines];
  }
  function closePanel() {
    panel.hidden = true;
    map.focus({ preventScroll: true });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !panel.hidden) closePanel();
  });

  // --- things that fold ----------------------------------------------------------------------------

  function folding(summary, body) {
    const made = el("details", "", summary);
    made.fill = () => {
      if (made.children.length < 2) made.append(el("div", "body", ...body()));
    };
    made.addEventListener("toggle", () => made.open && made.fill());
    return made;
  }
  function extend(list, items, page, make) {
    let next = 0;
    const grow = () => {
      list.append(...Array.from(items.slice(next, next + page), make));
      next += page;
      if (next >= items.length) return;
      const more = worded("button", "show_more", { n: Math.min(page, items.length - next) }, "more");
      more.type = "button";
      more.addEventListener("click", () => {
        const before = list.children.length;
        more.remove();
        grow();
        list.children[before - 1]?.querySelector("summary")?.focus();
      });
      list.append(more);
    };
    grow();
  }
  function telling(texts) {
    const list = el("dl", "rows");
    for (const key of ["expected", "actual", "consequence", "remedy", "caused_by", "command"]) {
      if (!texts[key]) continue;
      const value = key === "command" ? el("code", "", texts[key]) : texts[key];
      list.append(worded("dt", key), el("dd", "", value));
    }
    return list;
  }
  function messageOf(said) {
    return said.left ? worded("span", "message_left_out", {}, "quiet") : el("span", "", said.message);
  }
  function cellItem(cell, named) {
    const said = cellText(cell);
    const where = named ? el("span", "where", partName(said.row)) : null;
    const summary = el("summary", "", mark(ranks[cell]), el("span", "check", REST.checks[checks[cell]]), where, messageOf(said));
    return folding(summary, () => cellBody(said));
  }
  function cellBody(said) {
    const list = telling({ ...said, caused_by: said.cause });
    addEvidence(list, said);
    return [list];
  }
  function addEvidence(list, said) {
    if (said.evidence !== undefined) {
      const value = said.evidence < 0 ? worded("span", "evidence_left_out", {}, "quiet") : el("pre", "", REST.evidence[said.evidence]);
      if (value.tagName === "PRE") value.tabIndex = 0;
      list.append(worded("dt", "evidence"), el("dd", "", value));
    }
  }

  // --- findings ------------------------------------------------------------------------------------

  // Left out for size, the least of each section; no filter can say whether it would choose them.
  const unlisted = { n: 0, cells: 0 };
  for (const [findings, cells] of Object.values(REST.left_out)) {
    unlisted.n += findings;
    unlisted.cells += cells;
  }

  function showFindings() {
    const chosen = FINDINGS.filter(findingMatches);
    const box = byId("findings");
    box.replaceChildren();
    setWord(byId("findings-count"), "showing_findings", { n: chosen.length, total: FINDINGS.length + unlisted.n });
    if (!chosen.length) box.append(worded("p", "no_findings", {}, "empty"));
    const groups = new Map();
    const byConsequence = byId("sort").value === "consequence";
    for (const finding of chosen) {
      const key = byConsequence ? finding.consequence : finding.section;
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(finding);
    }
    for (const [key, findings] of groups) {
      if (!byConsequence) box.append(worded("h3", `part_${key}`));
      else box.append(key ? el("h3", "", key) : worded("h3", "no_consequence"));
      const list = el("div");
      extend(list, findings, PAGE_OF_FINDINGS, findingItem);
      box.append(list);
    }
    if (unlisted.n) box.append(worded("p", "findings_left_out", unlisted, "empty"));
  }
  function findingItem(finding) {
    const where = finding.placeCount <= 2 ? finding.places.join("; ") : `${finding.places[0]} … (${grouped(finding.cells.length)})`;
    const summary = el("summary", "", mark(finding.rank), el("span", "check", REST.checks[finding.check]),
      el("span", "", el("span", "where", where), " ", el("span", "", finding.message)));
    const item = folding(summary, () => findingBody(finding));
    item.classList.add("finding");
    return item;
  }
  function findingBody(finding) {
    const list = telling(finding);
    const where = el("ul");
    extend(where, finding.places, PAGE_OF_CELLS, (each) => el("li", "", each));
    const beyond = finding.placeCount - finding.places.length;
    if (beyond) where.append(worded("li", "more_places", { n: beyond }));
    list.append(worded("dt", "places"), el("dd", "", where));
    for (const [key, behind] of [["behind_evaluated", finding.explains], ["behind_unevaluated", finding.hides]]) {
      const counts = Object.entries(behind).sort(([, one], [, other]) => other - one);
      if (counts.length) list.append(worded("dt", key), el("dd", "", counts.map(([check, count]) => `${check} ${grouped(count)}`).join(", ")));
    }
    if (finding.cells.length === 1) {
      const said = cellText(finding.cells[0]);
      addEvidence(list, said);
      return [list, wholeHost(said.row.host)];
    }
    const cells = el("div", "cells");
    extend(cells, finding.cells, PAGE_OF_CELLS, (cell) => {
      const said = cellText(cell);
      const where = el("span", "", hostName(said.row.host), " ", partName(said.row));
      const evidence = el("summary", "", mark(ranks[cell]), where);
      return folding(evidence, () => {
        // What all cells of the finding share stands above them already.
        const own = { ...said, consequence: "", remedy: "" };
        return [el("p", "", messageOf(said)), ...cellBody(own), wholeHost(said.row.host)];
      });
    });
    return [list, worded("h3", "cells"), cells];
  }
  function wholeHost(index) {
    const open = worded("button", "whole", {}, "more");
    open.type = "button";
    open.addEventListener("click", () => openPanel(index, -1));
    return open;
  }

  // --- on paper ------------------------------------------------------------------------------------

  let opened = [];
  window.addEventListener("beforeprint", () => {
    document.documentElement.classList.add("printing");
    layMap(PAPER); // as wide as on the screen, the columns beyond the sheet would be cut off
    for (const canvas of tiles.querySelectorAll("canvas")) draw(canvas, 2);
    opened = [...document.querySelectorAll("#findings > div > details:not([open])")].slice(0, PAGE_OF_FINDINGS);
    for (const one of opened) { one.fill(); one.open = true; }
  });
  window.addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printing");
    for (const one of opened) one.open = false;
    layMap();
  });

  // --- start ---------------------------------------------------------------------------------------

  REST.checks.map((name, number) => [name, number]).sort().forEach(([name, number]) => {
    byId("filter-check").append(new Option(name, String(number)));
  });
  for (const status of STATUSES) {
    const chip = el("button", META.summary[status] ? "" : "none", mark(MARKS.findIndex((one) => one.word === status)),
      worded("span", status), el("b", "", META.summary[status].toLocaleString("en-US")));
    chip.type = "button";
    chip.dataset.status = status;
    chip.addEventListener("click", () => {
      if (!filter.statuses.delete(status)) filter.statuses.add(status);
      applyFilters();
    });
    byId("filter-status").append(chip);
  }
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filter-host").addEventListener("input", (event) => { filter.host = event.target.value.trim(); remember(); layMap(); showFindings(); });
  byId("filter-check").addEventListener("change", (event) => { filter.check = event.target.value === "" ? -1 : Number(event.target.value); applyFilters(); });
  byId("filter-clear").addEventListener("click", () => { filter.host = ""; filter.check = -1; filter.statuses.clear(); applyFilters(); });
  byId("sort").addEventListener("change", showFindings);
  byId("language").addEventListener("click", () => { setLanguage(language === "en" ? "zh" : "en"); remember(); });
  window.addEventListener("hashchange", () => { setLanguage(recall()); applyFilters(); });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => layMap());
  let width = map.clientWidth;
  new ResizeObserver(() => {
    if (map.clientWidth !== width) { width = map.clientWidth; layMap(); }
  }).observe(map);
  setLanguage(recall());
  applyFilters();
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
})();
