// The charts of a report, drawn with Observable Plot from the JSON inside the page; picking a layer.
(() => {
  "use strict";
  const report = JSON.parse(document.getElementById("report").textContent);
  const select = (query) => [...document.querySelectorAll(query)];
  const colour = (name) => `var(--${name})`;
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const short = (value) => (Math.abs(value) >= 1e5 || (value && Math.abs(value) < 1e-3) ? d3.format(".3~g")(value) : d3.format(",.4~g")(value));
  const groups = report.plan.groups;
  const scored = groups.map((_, index) => index).filter((index) => groups[index].units && groups[index].units.scores);
  const rule = report.plan.rule || {};
  const threshold = rule.max_betti === undefined ? null : rule.max_betti;
  const scoreName = report.plan.criterion === "betti" ? "Betti number" : `score by ${report.plan.criterion}`;
  const fates = { domain: ["kept", "removed", "dead"], range: ["kept", "removed", "dead"].map(colour) };
  document.documentElement.classList.remove("plain");

  function units(index) {
    const { scores, removed, dead } = groups[index].units;
    const gone = new Set(removed), silent = new Set(dead);
    return scores.map((score, unit) => ({
      layer: groups[index].root, score, unit, gone: gone.has(unit),
      fate: silent.has(unit) ? "dead" : gone.has(unit) ? "removed" : "kept",
    }));
  }

  // Where the rule drew the line: the threshold, or between the last that went and the first that stayed.
  function cut(rows) {
    if (threshold !== null) return { at: threshold, text: `threshold ${short(threshold)}` };
    const alive = rows.filter((row) => row.fate !== "dead");
    const [gone, kept] = [true, false].map((went) => d3.extent(alive.filter((row) => row.gone === went), (row) => row.score));
    if (gone[0] === undefined || kept[0] === undefined) return null;
    const apart = report.scoring.higher === "remove" ? gone[0] >= kept[1] : gone[1] <= kept[0];
    if (!apart) return null; // chosen in several iterations, each by scores of its own
    const at = report.scoring.higher === "remove" ? (gone[0] + kept[1]) / 2 : (gone[1] + kept[0]) / 2;
    return { at, text: `cut ${short(at)}` };
  }

  // Edges of bins, one of them where the line is, so that no bar lies on both sides; what is at the threshold itself stays.
  function edges(low, high, marked, count) {
    const step = d3.tickStep(low, high, count) || 1;
    const first = marked ? marked.at + (threshold === null ? 0 : 1e-9 * Math.max(1, Math.abs(marked.at))) : low;
    return d3.range(-Math.ceil((first - low) / step), Math.ceil((high - first) / step) + 1).map((k) => first + k * step);
  }

  function line({ at, text }, low, high) {
    const left = at - low > (high - low) / 2; // the side on which the text has room
    return [
      Plot.ruleX([at], { stroke: colour("ink"), strokeWidth: 1.5, strokeDasharray: "4,3" }),
      Plot.text([at], { x: (value) => value, text: () => text, frameAnchor: "top", dy: -12, textAnchor: left ? "end" : "start", fill: colour("ink") }),
    ];
  }

  function shorten(name, room) {
    const most = Math.max(8, Math.floor(room / 6.6));
    return name.length > most ? `…${name.slice(1 - most)}` : name;
  }

  const picker = document.getElementById("layer");
  const charts = {
    scores(width) {
      const picked = picker.value === "" ? scored : [Number(picker.value)];
      const rows = picked.flatMap(units);
      const marked = cut(rows);
      const shown = marked ? [...rows.map((row) => row.score), marked.at] : rows.map((row) => row.score);
      const [low, high] = d3.extent(shown);
      const bins = edges(low, high, marked, Math.min(50, Math.floor(width / 12)));
      return Plot.plot({
        width, height: 250, marginTop: 28, marginLeft: 46, marginBottom: 38,
        ariaLabel: `Distribution of the scores of ${picker.selectedOptions[0].text}`,
        x: { label: `${scoreName} →`, labelAnchor: "right", domain: [bins[0], bins[bins.length - 1]], nice: true, tickFormat: short, ticks: width / 90 },
        y: { label: "↑ channels", grid: true, tickFormat: (value) => (Number.isInteger(value) ? d3.format("~s")(value) : "") },
        color: fates,
        marks: [
          Plot.rectY(rows, Plot.binX({ y: "count" }, { x: "score", fill: "fate", order: fates.domain, domain: [bins[0], bins[bins.length - 1]], thresholds: bins, inset: 0.5, tip: { format: { x: short, y: true, fill: true } } })),
          Plot.ruleY([0], { stroke: colour("soft") }),
          ...(marked ? line(marked, low, high) : []),
        ],
      });
    },

    // Every layer as one row of cells: the darker, the more of its channels score there.
    overview(width) {
      const all = scored.flatMap(units);
      const [low, high] = d3.extent([...all.map((row) => row.score), threshold]);
      const cuts = edges(low, high, cut([]), 60);
      const bins = d3.bin().value((row) => row.score).domain([cuts[0], cuts[cuts.length - 1]]).thresholds(cuts);
      const left = Math.min(190, width * 0.34);
      const cells = scored.flatMap((index) => {
        const rows = units(index);
        return fates.domain.flatMap((fate) => bins(rows.filter((row) => row.fate === fate)).filter((bin) => bin.length).map((bin) => ({
          layer: groups[index].root, index, fate, count: bin.length, share: bin.length / rows.length, x1: bin.x0, x2: bin.x1,
        })));
      });
      const strongest = d3.max(cells, (cell) => cell.share);
      return Plot.plot({
        width, height: 54 + 18 * scored.length, marginTop: 26, marginLeft: left, marginBottom: 28,
        ariaLabel: "Scores of every layer, with the threshold",
        x: { label: null, nice: true, tickFormat: short, ticks: width / 110 },
        y: { domain: scored.map((index) => groups[index].root), label: null, tickSize: 0, padding: 0.25, tickFormat: (name) => shorten(name, left - 12) },
        color: fates,
        marks: [
          Plot.ruleY(scored, { y: (index) => groups[index].root, stroke: colour("line") }),
          Plot.barX(cells, {
            x1: "x1", x2: "x2", y: "layer", fill: "fate", fillOpacity: (cell) => 0.25 + 0.75 * Math.sqrt(cell.share / strongest),
            channels: { channels: "count" }, tip: { format: { x: false, x1: short, x2: short, fillOpacity: false } },
          }),
          ...line(cut([]), low, high),
        ],
      });
    },

    // One row per stage, controls among them. The axis spans what the result is held against; what a stage on the way
    // there had below that is written at its end, as is chance.
    stages(width, figure) {
      const { name, share } = figure.dataset;
      const chance = figure.dataset.chance === "" ? null : Number(figure.dataset.chance);
      const said = share ? percent : short;
      const look = (kind) => colour({ original: "before", tuned: "after" }[kind] ?? kind);
      const besides = ["control", "int8", "fp16"]; // no steps on the way
      const rows = select("#stages tbody tr").map(({ dataset }) => ({ ...dataset, values: JSON.parse(dataset.values) }));
      const points = rows.flatMap((row) => row.values.map((value) => ({ name: row.name, kind: row.kind, macs: Number(row.macs) / report.before.macs, value, stroke: look(row.kind), symbol: row.kind === "control" ? "diamond" : "circle" })));
      const hollow = (point) => point.kind === "control" || point.kind === "removed";
      const path = rows.filter((row) => !besides.includes(row.kind));
      const between = path.slice(1, -1).map((row) => row.name);
      const low = d3.min(points.filter((point) => !between.includes(point.name)), (point) => point.value);
      const high = d3.max(points, (point) => point.value);
      const room = Math.max(0.06 * (high - low), share ? 0.005 : 1e-9 * Math.max(1, Math.abs(high)));
      const domain = share ? [low < 0 ? low - room : Math.max(0, low - room), Math.min(1, high + room)] : [low - room, high + room];
      const below = chance !== null && chance < domain[0];
      const [inside, outside] = [true, false].map((within) => points.filter((point) => (point.value >= domain[0]) === within));
      const left = Math.min(170, width * 0.46);
      const means = rows.map((row) => ({ name: row.name, value: d3.mean(row.values), last: d3.max(row.values) }));
      const right = width < 480 ? 16 : 62; // no room for the values, which stand in the table too
      return Plot.plot({
        width, height: 62 + 26 * rows.length, marginTop: 26, marginLeft: left, marginBottom: 36, marginRight: right,
        ariaLabel: `${name} of every stage and every control: ${means.map((row) => `${row.name} ${said(row.value)}`).join(", ")}`,
        x: { domain, label: `${name} →`, labelAnchor: "right", grid: true, inset: 6, ticks: Math.max(2, (width - left - right) / 90), tickFormat: share ? (value) => `${short(100 * value)} %` : short },
        y: { domain: rows.map((row) => row.name), label: null, tickSize: 0, tickFormat: (text) => shorten(text, left - 12) },
        symbol: { type: "identity" },
        marks: [
          Plot.ruleY(rows, { y: "name", stroke: colour("line") }),
          ...(chance === null || below || chance > domain[1] ? [] : [Plot.ruleX([chance], { stroke: colour("ink"), strokeDasharray: "4,3" })]),
          ...(chance === null ? [] : [Plot.text([below ? domain[0] : chance], { x: (value) => value, text: () => `${below ? "← " : ""}chance ${percent(chance)}`, frameAnchor: "top", dy: -14, textAnchor: "start", fill: colour("soft") })]),
          Plot.text(outside, { x: domain[0], y: "name", text: (point) => `◀ ${said(point.value)}`, textAnchor: "start", fill: "stroke" }),
          Plot.dot(inside, { x: "value", y: "name", symbol: "symbol", stroke: "stroke", fill: (point) => (hollow(point) ? colour("ground") : point.stroke), strokeWidth: 2, r: 5 }),
          Plot.text(right < 62 ? [] : means, { y: "name", frameAnchor: "right", dx: right - 2, textAnchor: "end", text: (row) => said(row.value), fill: colour("ink") }),
          Plot.tip(inside, Plot.pointer({ x: "value", y: "name", title: (point) => `${point.name}\n${said(point.value)} at ${percent(point.macs)} of the MACs` })),
        ],
      });
    },

    budget(width) {
      const { probes, limit, option } = report.budget;
      const said = (value) => (option === "--target-size" ? d3.format(".4~s")(value) + "B" : short(value));
      const met = { domain: [true, false], range: [colour("after"), colour("removed")] };
      return Plot.plot({
        width, height: 260, marginTop: 28, marginLeft: 56, marginBottom: 38, marginRight: 24, ariaLabel: `Every try of the search for ${option}`,
        x: { label: "MACs left, share of the original →", labelAnchor: "right", tickFormat: "%", domain: [0, 1] },
        y: { label: `↑ ${option}`, grid: true, zero: true, nice: true, tickFormat: said },
        color: met,
        marks: [
          Plot.ruleY([limit], { stroke: colour("ink"), strokeDasharray: "4,3" }),
          Plot.text([limit], { y: (value) => value, text: () => `limit ${said(limit)}`, frameAnchor: "right", dy: -8, fill: colour("ink") }),
          Plot.dot(probes, { x: "macs", y: "value", fill: "met", r: 5 }),
          Plot.tip(probes, Plot.pointer({ x: "macs", y: "value", title: (probe) => `try ${probes.indexOf(probe) + 1}: ${said(probe.value)} at ${percent(probe.macs)} of the MACs\n${probe.met ? "within the limit" : "beyond the limit"}` })),
        ],
      });
    },

    latency(width, figure) {
      const batch = Number(figure.dataset.batch);
      const sides = JSON.parse(figure.dataset.files).map(([name, path, look]) => [name, path.split(".").reduce((at, key) => at[key], report), look]);
      const all = sides.flatMap(([name, side]) => side.latency[batch].times_ms.map((ms, run) => ({ name, ms, run: run + 1 })));
      // A single slow run would squeeze all others; how many are beyond the end is said there.
      const end = d3.max(sides, ([, side]) => side.latency[batch].p95_ms);
      const runs = all.filter((row) => row.ms <= end);
      const beyond = sides.map(([name]) => ({ name, count: all.filter((row) => row.name === name && row.ms > end).length })).filter((row) => row.count);
      // Over the height of the row, evenly and always in the same way, so that equal times stay apart.
      const spread = (row) => (row.run * 0.618034) % 1;
      const medians = sides.map(([name, side]) => ({ name, ms: side.latency[batch].median_ms }));
      const [low, high] = [d3.min(runs, (row) => row.ms), end];
      const logarithmic = low > 0 && high / low > 5;
      return Plot.plot({
        width, height: 48 + 44 * sides.length, marginLeft: 56, marginBottom: 34, marginRight: 40,
        ariaLabel: `Time of every inference at batch ${report.before.latency[batch].batch}: ${medians.map((row) => `${row.name} median ${row.ms.toFixed(3)} ms`).join(", ")}`,
        x: { type: logarithmic ? "log" : "linear", domain: [low, high], label: `ms${logarithmic ? ", logarithmic" : ""} →`, labelAnchor: "right", grid: true, inset: 4, tickFormat: (value) => short(value), ticks: Math.max(3, width / 130) },
        y: { axis: null, domain: [-0.1, 1.1] },
        fy: { domain: sides.map(([name]) => name), label: null },
        color: { domain: sides.map(([name]) => name), range: sides.map((side) => colour(side[2])) },
        marks: [
          Plot.dot(runs, { x: "ms", y: spread, fy: "name", fill: "name", fillOpacity: 0.75, r: 2.6 }),
          Plot.tickX(medians, { x: "ms", fy: "name", stroke: colour("ink"), strokeWidth: 2 }),
          Plot.text(beyond, { fy: "name", frameAnchor: "right", dx: 36, textAnchor: "end", text: (row) => `+ ${row.count}`, fill: colour("soft") }),
          Plot.tip(runs, Plot.pointer({ x: "ms", y: spread, fy: "name", title: (row) => `${row.name}, run ${row.run}: ${row.ms.toFixed(3)} ms` })),
        ],
      });
    },

    tuning(width, figure) {
      const { of, name, share } = figure.dataset;
      const history = report.finetune.history.map((epoch, at) => ({ ...epoch, at }));
      const best = history.filter((epoch) => epoch.epoch === report.finetune.best_epoch).slice(-1);
      const steps = history.filter((epoch, at) => at && epoch.iteration !== history[at - 1].iteration).map((epoch) => epoch.at);
      const kinds = {
        accuracy: { label: `↑ validation ${name}`, keys: [["accuracy", "after", "validation"]], format: share ? percent : short, y: share ? { tickFormat: "%", zero: d3.min(history, (epoch) => epoch.accuracy) < 0.5 } : { tickFormat: short } },
        loss: { label: "↑ loss", keys: [["loss", "before", "training"], ["validation_loss", "after", "validation"]], format: short, y: { zero: true } },
        lr: { label: "↑ learning rate", keys: [["lr", "settled", "learning rate"]], format: short, y: { zero: true, tickFormat: short } },
      };
      const { label, keys, format, y } = kinds[of];
      const rows = keys.flatMap(([key, look, name]) => history.filter((epoch) => epoch[key] != null && (of !== "lr" || epoch.epoch > 0)).map((epoch) => ({ ...epoch, value: epoch[key], look, name })));
      return Plot.plot({
        width, height: 210, marginTop: 28, marginLeft: of === "accuracy" && !share ? 60 : 46, marginBottom: 36, ariaLabel: `Fine-tuning, epoch by epoch: ${label.slice(2)}`,
        x: { label: "epoch →", labelAnchor: "right", domain: [0, Math.max(1, history.length - 1)], ticks: Math.min(history.length, width / 50), tickFormat: (at) => (Number.isInteger(at) && history[at] ? String(history[at].epoch) : "") },
        y: { label, grid: true, nice: true, ticks: 5, ...y },
        marks: [
          Plot.ruleX(steps, { stroke: colour("soft"), strokeDasharray: "2,3" }),
          Plot.line(rows, { x: "at", y: "value", stroke: (row) => colour(row.look), z: "name", strokeWidth: 2 }),
          Plot.dot(rows, { x: "at", y: "value", fill: (row) => colour(row.look), r: 2.5 }),
          ...(of === "lr" ? [] : [Plot.dot(best, { x: "at", y: keys[keys.length - 1][0], stroke: colour("ink"), r: 6, strokeWidth: 1.5 })]),
          Plot.tip(rows, Plot.pointerX({ x: "at", y: "value", title: (row) => `${report.finetune.iterations > 1 ? `iteration ${row.iteration}, ` : ""}epoch ${row.epoch}${best[0] && row.at === best[0].at ? " (kept)" : ""}\n${row.name} ${format(row.value)}` })),
        ],
      });
    },
  };

  function draw(figure) {
    const width = Math.floor(figure.clientWidth);
    if (width < 1) return;
    figure.dataset.width = width;
    const svg = charts[figure.dataset.chart](width, figure);
    (svg.matches("svg") ? svg : svg.querySelector("svg")).setAttribute("role", "img");
    figure.replaceChildren(svg);
  }

  const figures = select("figure.chart");
  figures.forEach(draw);
  const watch = new ResizeObserver((entries) => entries.forEach(({ target }) => {
    if (Math.abs(target.clientWidth - Number(target.dataset.width)) > 1) requestAnimationFrame(() => draw(target));
  }));
  figures.forEach((figure) => watch.observe(figure));

  function picked() {
    const index = picker.value === "" ? null : Number(picker.value);
    draw(document.querySelector("[data-chart=scores]"));
    select("#layers tbody tr").forEach((row) => row.classList.toggle("picked", index !== null && row.querySelector(`a[data-layer="${index}"]`) !== null));
    const rows = (index === null ? scored : [index]).flatMap(units);
    const gone = rows.filter((row) => row.gone).length;
    const above = threshold === null ? "" : `, ${rows.filter((row) => row.score > threshold).length} above the threshold`;
    const dead = rows.filter((row) => row.fate === "dead");
    const others = index === null ? [] : groups[index].units.layers;
    document.getElementById("scores-note").textContent =
      `${rows.length} judged${above}${dead.length ? `, ${dead.length} dead` : ""}; ${gone} removed${dead.length ? `, ${dead.filter((row) => row.gone).length} of them dead` : ""}, after floor, ceiling and alignment of widths.` +
      (others.length > 1 ? ` Each score is the mean over ${others.join(", ")}.` : "");
  }

  if (picker) {
    picker.addEventListener("change", picked);
    select("a[data-layer]").forEach((link) => link.addEventListener("click", () => {
      picker.value = link.dataset.layer;
      picked();
    }));
    picked();
  }
})();
