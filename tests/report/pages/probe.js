window.alert = () => console.error("alert was called");
const isReady = async () => {
  while (document.documentElement.dataset.ready !== "yes") await new Promise((done) => setTimeout(done, 10));
};
isReady().then(() => {
  const seen = {};
  const names = () => [...document.querySelectorAll("#results tbody tr")]
    .filter((row) => !row.hidden).map((row) => row.dataset.name);
  const header = (key) => document.querySelector(`th[data-key="${key}"]`);
  seen.ready = document.documentElement.dataset.ready;
  seen.first = names();
  seen.filtered_by_address = document.getElementById("filter").value;
  document.getElementById("filter").value = "";
  document.getElementById("filter").dispatchEvent(new Event("input"));
  header("accuracy").querySelector("button").click();
  seen.down = [header("accuracy").getAttribute("aria-sort"), names()];
  header("accuracy").querySelector("button").click();
  seen.up = [header("accuracy").getAttribute("aria-sort"), header("variant").getAttribute("aria-sort"), names()];
  header("paper").querySelector("button").click();
  seen.paper = names();
  document.getElementById("filter").value = "ATTENTION stages";
  document.getElementById("filter").dispatchEvent(new Event("input"));
  seen.filtered = [names(), document.getElementById("shown").textContent];
  seen.charts = [...document.querySelectorAll("[data-chart]")]
    .map((place) => place.querySelectorAll("svg.main-svg").length > 0);
  const ink = () => getComputedStyle(document.querySelector("#chart-difference .xtick text")).fill;
  const theme = () => document.documentElement.dataset.theme;
  seen.theme = [theme(), ink()];
  document.getElementById("theme").click();
  seen.other_theme = [theme(), ink()];
  document.querySelector('[data-seeds="seed"]').click();
  const curves = document.querySelector('[data-chart^="curve-"]');
  seen.seeds = curves.data.filter((trace) => trace.visible !== false).map((trace) => trace.meta);
  document.querySelector('[data-curve="curve-train_loss"]').click();
  seen.curve = curves.layout.yaxis.title.text;
  const main = document.querySelector("#chart-difference");
  Plotly.Fx.hover(main, [{ curveNumber: 0, pointNumber: 0 }]);
  seen.hover = main.querySelector(".hoverlayer").textContent;
  seen.width = window.innerWidth;
  seen.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const note = document.body.appendChild(document.createElement("pre"));
  note.id = "seen";
  note.textContent = btoa(unescape(encodeURIComponent(JSON.stringify(seen))));
  // A page in a frame has no document that the test could read.
  window.parent.postMessage(note.textContent, "*");
});
