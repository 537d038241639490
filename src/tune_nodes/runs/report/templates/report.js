"use strict";
// Reading needs none of this: it finds, filters, sorts and opens nodes, and follows the map into a closed section.
(() => {
  const $ = (id) => document.getElementById(id);
  const groups = [$("full"), $("brief")].filter(Boolean);
  const rows = groups.flatMap((group) => [...group.children].filter((row) => row.dataset.n !== undefined));
  const cells = new Map([...document.querySelectorAll(".map a")].map((cell) => [cell.hash.slice(1), cell]));
  const openTarget = () => {
    const target = location.hash.length > 1 && $(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    if (target.hidden) reset();
    target.scrollIntoView();
  };
  const names = new Intl.Collator("en", { numeric: true });
  const orders = {
    n: (a, b) => names.compare(a.dataset.n, b.dataset.n),
    w: (a, b) => (a.dataset.w || 1e9) - (b.dataset.w || 1e9) || orders.n(a, b),
    t: (a, b) => b.dataset.t - a.dataset.t || orders.n(a, b),
  };
  const filter = () => {
    const text = $("find").value.trim().toLowerCase();
    const outcome = $("outcome").value;
    let shown = 0;
    for (const row of rows) {
      const hit = (!outcome || row.dataset.o === outcome) && (!text || row.dataset.n.toLowerCase().includes(text));
      row.hidden = !hit;
      const cell = cells.get(row.id);
      if (cell) cell.classList.toggle("off", !hit);
      shown += hit;
    }
    $("shown").textContent = shown === rows.length ? "" : `${shown} of ${rows.length} nodes`;
  };
  const reset = () => {
    $("find").value = "";
    $("outcome").value = "";
    filter();
  };
  const sort = () => {
    const order = orders[$("sort").value];
    for (const group of groups) {
      const own = rows.filter((row) => row.parentElement === group);
      group.append(...(order ? [...own].sort(order) : own));
    }
  };
  const details = () => [...document.querySelectorAll("main details")];
  if ($("tools") && rows.length > 1) {
    $("tools").hidden = false;
    $("tools").addEventListener("submit", (event) => event.preventDefault());
    $("find").addEventListener("input", filter);
    $("outcome").addEventListener("change", filter);
    $("sort").addEventListener("change", sort);
    $("all").addEventListener("click", () => {
      const nodes = rows.filter((row) => row.tagName === "DETAILS" && !row.hidden);
      const open = nodes.some((node) => !node.open);
      for (const node of nodes) node.open = open;
      $("all").textContent = open ? "Close all" : "Open all";
    });
  }
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = details().filter((one) => !one.open);
    for (const one of closed) one.open = true;
  });
  addEventListener("afterprint", () => {
    for (const one of closed) one.open = false;
  });
  addEventListener("hashchange", openTarget);
  openTarget();
})();
