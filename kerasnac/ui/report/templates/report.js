"use strict";
// Draws the figures of the report from the JSON in #data. Texts come from users: plotly reads tags in them, so they are escaped.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const drawn = [];
  let printing = false;

  const escaped = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const shown = (value) => {
    if (typeof value !== "number") return String(value);
    const size = Math.abs(value);
    if (Number.isInteger(value) || size >= 1e4) return Math.round(value).toLocaleString("en-US");
    return size > 0 && size < 1e-3 ? value.toExponential(2) : String(Number(value.toPrecision(5)));
  };
  const night = () => dark.matches && !printing;
  const ink = () => (night() ? "#e6e8eb" : "#1c2024");
  // The same hues on black, with a third of white.
  const lighter = (color) => "#" + [1, 3, 5].map((i) => Math.round(0.68 * parseInt(color.slice(i, i + 2), 16) + 82).toString(16).padStart(2, "0")).join("");
  const paint = (color) => (color === "ink" ? ink() : night() && /^#[0-9a-f]{6}$/i.test(color) ? lighter(color) : color);
  const element = (tag, text, parent) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  };

  const axis = (own) => {
    const grid = night() ? "#30363d" : "#e3e6ea";
    const numbers = own.type === "log" ? { exponentformat: "SI" } : { exponentformat: "none", separatethousands: true };
    const title = { text: escaped(own.title.text), standoff: 8 };
    return { gridcolor: grid, zerolinecolor: grid, linecolor: grid, automargin: true, ...numbers, ...own, title };
  };
  const themed = (layout) => ({
    margin: { l: 60, r: 12, t: 26, b: 48 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: ink(), size: 12, family: "system-ui, sans-serif" },
    hoverlabel: { align: "left", namelength: -1 },
    legend: { bgcolor: "rgba(0,0,0,0)", itemsizing: "constant" },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: "#8a8f98", activecolor: "#0072b2" },
    ...layout,
    ...(layout.xaxis ? { xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis) } : {}),
  });
  const config = (tools) => ({ responsive: true, displaylogo: false, displayModeBar: tools, modeBarButtonsToRemove: ["lasso2d", "select2d"] });
  const colored = (part) => {
    if (Array.isArray(part)) return typeof part[0] === "object" ? part.map(colored) : part;
    if (part && typeof part === "object") return Object.fromEntries(Object.entries(part).map(([k, v]) => [k, k === "color" ? paint(v) : colored(v)]));
    return part;
  };
  const draw = (place, make, tools = false) => {
    const redraw = () => {
      const { data: traces, layout } = make();
      return Plotly.react(place, traces, themed(layout), config(tools));
    };
    drawn.push(redraw);
    return redraw;
  };

  // Figures that are drawn as they were made.
  for (const figure of document.querySelectorAll("[data-chart]")) {
    const chart = data.charts[figure.dataset.chart];
    draw(figure.querySelector(".plot"), () => {
      const traces = chart.data.map((trace) => {
        const own = colored(trace);
        own.name = escaped(trace.name);
        own.x = trace.x.map((value) => (typeof value === "string" ? escaped(value) : value));
        if (trace.text) own.text = trace.text.map(escaped);
        if (trace.type === "heatmap") [own.y, own.hovertext] = [trace.y.map(escaped), trace.hovertext.map(escaped)];
        if (trace.type === "bar") own.textposition = "none";
        return own;
      });
      const boxes = traces.every((trace) => trace.type === "box");
      const narrow = figure.clientWidth < 620;
      const below = { orientation: "h", y: -0.25, font: { size: 10 } };
      return {
        data: traces,
        layout: { ...colored(chart.layout), showlegend: !boxes && traces.length > 1, legend: narrow ? below : { font: { size: 11 } } },
      };
    });
  }

  // Parallel coordinates.
  for (const figure of document.querySelectorAll("[data-parallel]")) {
    const own = data.parallels[figure.dataset.parallel];
    draw(figure.querySelector(".plot"), () => {
      const last = own.axes.find((one) => one.name === own.color);
      const sorted = [...last.values].sort((a, b) => a - b);
      const [low, high] = [0.05, 0.95].map((part) => sorted[Math.floor(part * (sorted.length - 1))]);
      const short = (name) => (name.length > 17 ? `…${name.slice(-16)}` : name);
      return {
        data: [
          {
            type: "parcoords",
            // Good ones have the colour that stands out.
            line: { color: last.values, colorscale: "Viridis", reversescale: (own.sense === "max") !== night(), cmin: low, cmax: high, showscale: false },
            labelfont: { size: 10 },
            tickfont: { size: 10 },
            dimensions: own.axes.map((one) => ({
              label: escaped(short(one.name)),
              values: one.values,
              ...(one.words.length ? { tickvals: one.words.map((_, i) => i), ticktext: one.words.map(escaped) } : {}),
            })),
          },
        ],
        layout: { margin: { l: 70, r: 70, t: 50, b: 20 } },
      };
    });
  }

  // Points with menus.
  const symbols = { search: "circle", tune: "square", compress: "diamond", trees: "triangle-up" };
  const solid = { search: "circle", tune: "square", compress: "diamond", trees: "circle" };
  const levelLine = (i) => ({ color: paint(data.colors.classical), width: 1.4, dash: ["solid", "dash", "dot", "dashdot"][i % 4] });
  const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

  const goodRange = (values, sense, log) => {
    const sign = sense === "max" ? 1 : -1;
    const good = values.map((value) => sign * value).sort((a, b) => a - b);
    if (log || good.length < 8) return undefined;
    const low = good[Math.floor(0.1 * (good.length - 1))];
    const high = good[good.length - 1];
    const floor = low - 0.5 * (high - low);
    if (good[0] >= floor || high === low) return undefined;
    return [sign * floor, sign * (high + 0.08 * (high - floor))].sort((a, b) => a - b);
  };
  const frontOf = (points, x, y, senses) => {
    const sx = senses[x] === "max" ? -1 : 1;
    const sy = senses[y] === "max" ? -1 : 1;
    const sorted = [...points].sort((a, b) => sx * (a.values[x] - b.values[x]) || sy * (a.values[y] - b.values[y]));
    let best = Infinity;
    return sorted.filter((point) => {
      const loss = sy * point.values[y];
      if (loss >= best) return false;
      best = loss;
      return true;
    });
  };

  for (const figure of document.querySelectorAll("[data-explorer]")) {
    const own = data.explorers[figure.dataset.explorer];
    const [menus, place, detail] = [".menus", ".plot", ".detail"].map((name) => figure.querySelector(name));
    const state = { x: own.axes[0], y: own.axes[1], z: own.axes[2], color: "", linked: own.links, chosen: null };
    const menu = (name, key, none) => {
      const label = element("label", name, menus);
      const select = element("select", undefined, label);
      select.name = key;
      if (none) element("option", none, select).value = "";
      for (const one of own.keys) element("option", one, select).value = one;
      select.value = state[key];
      select.addEventListener("change", () => {
        state[key] = select.value;
        redraw();
      });
    };
    const hover = (point, keys) =>
      [
        point.name + (point.reference ? ` (${point.reference})` : "") + ": " + own.stages[point.stage],
        ...keys.filter((key) => isNumber(point.values[key])).map((key) => `${key} ${shown(point.values[key])}`),
        ...(point.text.match(/.{1,70}(\s|$)|.{70}/g) || []),
      ]
        .map(escaped)
        .join("<br>");

    const make = () => {
      const { x, y, z, color } = state;
      const keys = [...new Set([y, x, z, color].filter(Boolean))];
      const there = own.points.filter((point) => [x, y, z].filter(Boolean).every((key) => isNumber(point.values[key])));
      const marks = z ? solid : symbols;
      const kind = z ? "scatter3d" : there.length > 4000 ? "scattergl" : "scatter";
      const trace = (points, more) => ({
        type: kind,
        mode: "markers",
        x: points.map((point) => point.values[x]),
        y: points.map((point) => point.values[y]),
        ...(z ? { z: points.map((point) => point.values[z]) } : {}),
        ...more,
      });
      const labelled = (points, more) =>
        trace(points, { text: points.map((p) => hover(p, keys)), hoverinfo: "text", customdata: points.map((p) => own.points.indexOf(p)), ...more });
      const traces = [];
      const senses = own.senses;
      const values = color ? there.map((point) => point.values[color]).filter(isNumber) : [];
      const scale = color && values.length ? { cmin: Math.min(...values), cmax: Math.max(...values), colorscale: "Viridis" } : {};
      for (const [number, stage] of Object.keys(own.stages).entries()) {
        const points = there.filter((point) => point.stage === stage);
        if (!points.length) continue;
        const fill = color ? points.map((point) => point.values[color] ?? null) : paint(data.colors[stage]);
        const bar = color && !traces.length ? { showscale: true, colorbar: { title: { text: escaped(color) }, thickness: 12, x: 1, xanchor: "left" } } : {};
        traces.push(
          labelled(points, {
            name: own.stages[stage],
            legendgroup: stage,
            marker: { color: fill, symbol: marks[stage], size: z ? 4 : 7, opacity: points.length > 40 ? 0.6 : 0.9, line: { width: 0 }, ...scale, ...bar },
          }),
        );
        const front = !z && senses[x] && senses[y] && x !== y ? frontOf(points.filter((point) => point.counts), x, y, senses) : [];
        if (front.length > 1) {
          const dash = ["solid", "dash", "dot", "dashdot"][number];
          const line = { color: color ? ink() : paint(data.colors[stage]), width: 1.4, dash, shape: "hv" };
          traces.push(trace(front, { type: "scatter", mode: "lines", name: `front, ${own.stages[stage]}`, legendgroup: stage, line, hoverinfo: "skip" }));
        }
      }
      const overlay = (points, name, marker) => points.length && traces.push(labelled(points, { name, marker: { color: "rgba(0,0,0,0)", ...marker } }));
      overlay(there.filter((p) => p.reference), "seeds and baselines", { symbol: "cross", size: z ? 6 : 13, color: ink(), opacity: 1 });
      if (own.links) {
        overlay(there.filter((p) => p.marks.includes("chosen")), "chosen", { symbol: z ? "circle-open" : "circle-open", size: z ? 8 : 14, color: ink(), line: { width: 1.5, color: ink() } });
        const firmware = there.filter((p) => p.marks.includes("firmware"));
        overlay(firmware, "firmware", { symbol: z ? "x" : "star", size: z ? 6 : 14, color: data.colors.firmware, line: { width: 1, color: ink() } });
      }
      const order = Object.keys(own.stages);
      const path = (points, name, line) => {
        const ends = { x: [], y: [], z: [] };
        const families = Map.groupBy ? Map.groupBy(points, (p) => p.family) : points.reduce((m, p) => m.set(p.family, [...(m.get(p.family) || []), p]), new Map());
        for (const family of families.values()) {
          const stages = order.map((stage) => family.filter((p) => p.stage === stage)).filter((one) => one.length);
          for (let i = 0; i + 1 < stages.length; i++)
            for (const from of stages[i])
              for (const to of stages[i + 1])
                for (const [key, of] of [["x", x], ["y", y], ["z", z]]) if (of) ends[key].push(from.values[of], to.values[of], null);
        }
        if (ends.x.length) traces.push({ type: kind, mode: "lines", name, x: ends.x, y: ends.y, ...(z ? { z: ends.z } : {}), line, hoverinfo: "skip" });
      };
      if (state.linked) path(there.filter((p) => p.marks.includes("chosen") || p.stage === "tune"), "links of chosen ones", { color: ink(), width: 1, dash: "dot" });
      if (state.chosen) {
        const family = there.filter((p) => p.family === state.chosen.family);
        overlay(family, "clicked, and its relatives", { symbol: z ? "circle-open" : "circle-open", size: z ? 10 : 11, color: "#D55E00", line: { width: 2.5, color: "#D55E00" } });
      }
      // A cost spans decades; so do learning rates.
      const positive = (key) => there.length && there.every((point) => point.values[key] > 0);
      const spread = (key) => Math.max(...there.map((p) => p.values[key])) / Math.min(...there.map((p) => p.values[key]));
      const log = (key) => Boolean(positive(key) && spread(key) > 8 && key !== own.axes[1]);
      const range = goodRange(there.map((point) => point.values[y]), senses[y], log(y));
      const one = (key) => ({ title: { text: key.replaceAll("_", " ") }, type: log(key) ? "log" : "linear", ...(log(key) && there.some((p) => p.values[key] < 1) ? { exponentformat: "power" } : {}) });
      const layout = z
        ? { scene: { xaxis: axis(one(x)), yaxis: axis(one(y)), zaxis: axis(one(z)) }, margin: { l: 0, r: 0, t: 30, b: 0 } }
        : { xaxis: one(x), yaxis: { ...one(y), ...(range ? { range } : {}) }, hovermode: "closest" };
      const hidden = range && !z ? there.filter((p) => p.values[y] < range[0] || p.values[y] > range[1]).length : 0;
      const missing = own.points.length - there.length;
      const remarks = [hidden ? `${hidden} worse ones are out of sight` : "", missing ? `${missing} points lack a value` : ""].filter(Boolean);
      if (remarks.length) layout.annotations = [{ text: remarks.join("; "), xref: "paper", yref: "paper", x: 1, y: 0, xanchor: "right", yanchor: "bottom", showarrow: false, font: { size: 10 } }];
      const narrow = figure.clientWidth < 760;
      layout.legend = narrow || color ? { orientation: "h", y: z ? 0 : -0.16, font: { size: 11 } } : { y: z ? 0.95 : 1, font: { size: 11 } };
      // Classical methods have a metric and none of the costs: a line.
      const levels = z ? [] : Object.entries(own.levels).filter(([, metrics]) => isNumber(metrics[y]));
      layout.shapes = levels.map(([, metrics], i) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: metrics[y], y1: metrics[y], line: levelLine(i) }));
      for (const [i, [name, metrics]] of levels.entries())
        traces.push({ type: "scatter", mode: "lines", name: escaped(`${name}: ${shown(metrics[y])}`), x: [null], y: [null], line: levelLine(i) });
      place.dataset.points = there.length;
      return { data: traces, layout };
    };

    const describe = () => {
      detail.replaceChildren();
      const point = state.chosen;
      if (!point) return;
      element("h3", point.name + (point.reference ? `, ${point.reference}` : "") + `: ${own.stages[point.stage]}`, detail);
      if (point.marks.length) element("p", point.marks.join(", "), detail);
      if (point.text) element("p", point.text, detail);
      const list = element("dl", undefined, detail);
      for (const [key, value] of Object.entries(point.values)) {
        const row = element("div", undefined, list);
        element("dt", key, row);
        element("dd", shown(value), row);
      }
      const family = own.links ? own.points.filter((one) => one.family === point.family && one !== point) : [];
      if (family.length) element("p", "Its relatives:", detail);
      const lines = element("ul", undefined, detail);
      for (const one of family.slice(0, 40)) {
        const known = [own.axes[1], own.axes[0]].filter((key) => isNumber(one.values[key])).map((key) => `${key} ${shown(one.values[key])}`);
        element("li", `${one.name} (${[own.stages[one.stage], ...one.marks].join(", ")}): ${known.join(", ")}`, lines);
      }
      if (family.length > 40) element("li", `and ${family.length - 40} more`, lines);
    };

    const redraw = draw(place, make, true);
    menu("horizontal", "x");
    menu("vertical", "y");
    menu("third axis", "z", "none");
    menu("colour", "color", own.links ? "stage" : "none");
    if (own.links) {
      const label = element("label", undefined, menus);
      const box = element("input", undefined, label);
      box.type = "checkbox";
      box.checked = state.linked;
      label.append("links");
      box.addEventListener("change", () => {
        state.linked = box.checked;
        redraw();
      });
    }
    redraw().then(() => {
      place.on("plotly_click", (event) => {
        const number = event.points[0].customdata;
        if (number === undefined) return;
        state.chosen = state.chosen === own.points[number] ? null : own.points[number];
        describe();
        redraw();
      });
    });
  }

  const all = () => Promise.all(drawn.map((redraw) => redraw()));
  all().then(() => (document.body.dataset.drawn = String(drawn.length)));
  dark.addEventListener("change", all);
  addEventListener("beforeprint", () => {
    printing = true;
    for (const one of document.querySelectorAll("details")) one.open = true;
    all();
  });
  addEventListener("afterprint", () => {
    printing = false;
    all();
  });
})();
