"use strict";
(() => {
  const NARROW_PX = 620;
  const PRINT_PX = 680;
  // With more classes, their numbers would run into each other on a narrow screen.
  const MOST_NARROW_CELLS = 7;
  const root = document.documentElement;
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const charts = read("data-charts");
  let seedMode = "band";

  // Colours in the figures are names of CSS variables.
  const themed = (value, style) => {
    if (typeof value === "string") {
      return value.replace(/var\((--[\w-]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
    }
    if (Array.isArray(value)) return value.map((item) => themed(item, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item, style)]));
    }
    return value;
  };

  const fitted = (layout, width) => {
    layout.font.family = getComputedStyle(root).getPropertyValue("--sans").trim();
    if (width >= NARROW_PX) return layout;
    const all = layout.annotations || [];
    layout.annotations = all.filter((note) => note.name !== "wide-only");
    if (layout.annotations.length < all.length) layout.margin.r = 16;
    layout.font.size = 11.5;
    for (const axis of [layout.xaxis, layout.yaxis]) {
      if (axis && axis.title && axis.title.text) axis.title.font = { size: 11.5 };
    }
    return layout;
  };

  const draw = (place, width) => {
    const style = getComputedStyle(root);
    const figure = themed(charts[place.dataset.chart], style);
    const narrow = (width || place.clientWidth) < NARROW_PX;
    const hidden = new Set((place.data || []).filter((trace) => trace.visible === "legendonly").map((trace) => trace.legendgroup));
    for (const trace of figure.data) {
      if (trace.meta === "band" || trace.meta === "seed") trace.visible = trace.meta === seedMode;
      if (trace.legendgroup && hidden.has(trace.legendgroup) && trace.visible !== false) trace.visible = "legendonly";
      if (narrow && trace.colorbar) trace.showscale = false;
      if (narrow && trace.type === "heatmap" && trace.z[0].length > MOST_NARROW_CELLS) delete trace.texttemplate;
    }
    const layout = fitted(figure.layout, width || place.clientWidth);
    if (width) layout.width = width;
    Plotly.react(place, figure.data, layout, {
      displaylogo: false,
      responsive: !width,
      modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
      displayModeBar: narrow ? false : "hover",
      doubleClick: "reset",
    });
    place.style.minHeight = "";
  };
  const places = [...document.querySelectorAll("[data-chart]")];
  const drawAll = (width) => places.forEach((place) => draw(place, width && place.closest(".pair") ? width / 2 - 12 : width));

  // The part of the address after "#" holds the state of the page, so that a view can be sent as a link.
  const state = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
  const remember = (key, value) => {
    if (value) state.set(key, value);
    else state.delete(key);
    try {
      history.replaceState(null, "", `#${state}`);
    } catch {
      // Some viewers show files without an address.
    }
  };

  const themeButton = document.getElementById("theme");
  const setTheme = (theme) => {
    root.dataset.theme = theme;
    themeButton.setAttribute("aria-pressed", String(theme === "dark"));
    themeButton.textContent = theme === "dark" ? "Light" : "Dark";
    themeButton.setAttribute("aria-label", `Change to the ${theme === "dark" ? "light" : "dark"} theme`);
  };
  const darkWanted = matchMedia("(prefers-color-scheme: dark)");
  setTheme(state.get("theme") || (darkWanted.matches ? "dark" : "light"));
  themeButton.addEventListener("click", () => {
    setTheme(root.dataset.theme === "dark" ? "light" : "dark");
    remember("theme", root.dataset.theme);
    drawAll();
  });
  darkWanted.addEventListener("change", (event) => {
    if (state.get("theme")) return;
    setTheme(event.matches ? "dark" : "light");
    drawAll();
  });

  const useTable = (table) => {
    const headers = [...table.tHead.rows[0].cells];
    const rows = [...table.tBodies[0].rows];
    const sort = (key, direction) => {
      const index = headers.findIndex((header) => header.dataset.key === key);
      if (index < 0) return;
      headers.forEach((header, i) => header.setAttribute("aria-sort", i === index ? direction : "none"));
      const sign = direction === "ascending" ? 1 : -1;
      const isText = key === "variant";
      const compare = (a, b) => {
        const [x, y] = [a, b].map((row) => row.cells[index].dataset.value);
        // An empty cell is last, whatever the direction.
        if (x === "" || y === "") return (x === "") - (y === "");
        return sign * (isText ? x.localeCompare(y) : Number(x) - Number(y));
      };
      table.tBodies[0].append(...[...rows].sort(compare));
      remember("sort", `${key}:${direction}`);
    };
    headers.forEach((header) => {
      header.querySelector("button").addEventListener("click", () => {
        const first = header.dataset.key === "variant" ? "ascending" : "descending";
        const second = first === "ascending" ? "descending" : "ascending";
        sort(header.dataset.key, header.getAttribute("aria-sort") === first ? second : first);
      });
    });

    const filter = document.getElementById("filter");
    const shown = document.getElementById("shown");
    const applyFilter = () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) {
        const text = `${row.dataset.name} ${row.textContent}`.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
      const count = rows.filter((row) => !row.hidden).length;
      shown.textContent = count === rows.length ? "" : `${count} of ${rows.length}`;
      remember("filter", filter.value.trim());
    };
    filter.addEventListener("input", applyFilter);
    const [wantedKey, wantedDirection] = (state.get("sort") || "").split(":");
    if (wantedKey) sort(wantedKey, wantedDirection === "ascending" ? "ascending" : "descending");
    if (state.get("filter")) {
      filter.value = state.get("filter");
      applyFilter();
    }
  };
  const results = document.getElementById("results");
  if (results) useTable(results);

  const choose = (attribute, act) => {
    const buttons = [...document.querySelectorAll(`[data-${attribute}]`)];
    for (const button of buttons) {
      button.addEventListener("click", () => {
        buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
        act(button.dataset[attribute]);
      });
    }
  };
  const curvePlace = places.find((place) => place.dataset.chart.startsWith("curve-"));
  const scalingPlace = places.find((place) => place.dataset.chart.startsWith("scaling-"));
  const show = (place) => (name) => {
    place.dataset.chart = name;
    draw(place);
  };
  choose("curve", show(curvePlace));
  choose("scaling", show(scalingPlace));
  choose("seeds", (mode) => {
    seedMode = mode;
    draw(curvePlace);
  });

  for (const button of document.querySelectorAll("[data-download]")) {
    button.addEventListener("click", () => {
      const kind = button.dataset.download;
      const values = read(`data-${kind}`);
      const text = typeof values === "string" ? values : JSON.stringify(values, null, 1);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text], { type: typeof values === "string" ? "text/plain" : "application/json" }));
      link.download = button.dataset.file;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  }

  // A picture for a paper: the chart as it is drawn now, on the page's paper.
  const studyName = document.querySelector("[data-download]").dataset.file.replace(/-records\.json$/, "");
  const picture = (place, format) => {
    if (!place.data) draw(place);
    const ground = getComputedStyle(root).getPropertyValue("--page").trim();
    const { data, layout } = place;
    const size = { width: 900, height: place.offsetHeight || layout.height, scale: format === "png" ? 2 : 1 };
    return Plotly.toImage({ data, layout: { ...layout, paper_bgcolor: ground, width: size.width } }, { format, ...size });
  };
  for (const place of places) {
    for (const format of ["svg", "png"]) {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.picture = format;
      const title = () => `${place.dataset.chart} ${format.toUpperCase()}`;
      button.textContent = title();
      button.addEventListener("click", async () => {
        const link = document.createElement("a");
        link.href = await picture(place, format);
        link.download = `${studyName}-${place.dataset.chart}.${format}`;
        link.click();
      });
      new MutationObserver(() => (button.textContent = title())).observe(place, { attributeFilter: ["data-chart"] });
      document.getElementById("pictures").append(" ", button);
    }
  }
  // For `metaformer report --export`: every chart, drawn in turn in a place of its own.
  window.metaformerPictures = async () => {
    const found = {};
    for (const name of Object.keys(charts)) {
      const place = document.createElement("div");
      place.dataset.chart = name;
      place.style.width = "900px";
      document.body.append(place);
      draw(place, 900);
      for (const format of ["svg", "png"]) found[`${name}.${format}`] = await picture(place, format);
      place.remove();
    }
    return found;
  };

  let themeOnScreen = root.dataset.theme;
  addEventListener("beforeprint", () => {
    themeOnScreen = root.dataset.theme;
    setTheme("light");
    document.querySelectorAll("details").forEach((part) => (part.open = true));
    drawAll(PRINT_PX);
  });
  addEventListener("afterprint", () => {
    setTheme(themeOnScreen);
    drawAll();
  });

  let wasNarrow = innerWidth < NARROW_PX;
  addEventListener("resize", () => {
    if (wasNarrow === innerWidth < NARROW_PX) return;
    wasNarrow = !wasNarrow;
    drawAll();
  });
  // The first chart at once, those below it one at a time, so that the page can be read and used meanwhile. Each has
  // its height before it is drawn: nothing moves under the reader.
  const drawRest = ([place, ...rest]) => {
    if (!place) {
      root.dataset.ready = "yes";
      return;
    }
    setTimeout(() => {
      if (!place.data) draw(place);
      drawRest(rest);
    });
  };
  for (const place of places) place.style.minHeight = `${charts[place.dataset.chart].layout.height}px`;
  if (places.length) draw(places[0]);
  drawRest(places.slice(1));
})();
