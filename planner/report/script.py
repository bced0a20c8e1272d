"""What the page does under a pointer: it reads every plan at the bandwidth pointed at.

The page says the same without it; all data is in the document.
"""

JS = """
(() => {
  const source = document.getElementById('curves');
  const output = document.querySelector('.readout');
  if (!source || !output) return;
  const {low, high, objective, plans} = JSON.parse(source.textContent);
  const digits = (value) => Number(value.toPrecision(3)).toString();
  const shown = (value) => {
    if (objective === 'throughput') return digits(1 / value) + ' frames/s';
    if (objective === 'cost') return digits(value * 1e6) + ' USD a million';
    return value >= 1 ? digits(value) + ' s' : digits(value * 1e3) + ' ms';
  };
  const slowest = (stages, bps) => Math.max(...stages.map(([fixed, pace]) => fixed + pace / bps));
  const at = (plan, bps) => Math.min(...plan.ways.map((stages) => slowest(stages, bps)));
  const idle = 'Point at the chart to read every plan at that bandwidth.';
  const say = (bps) => {
    const ranked = plans.map((plan) => [at(plan, bps), plan.id]).sort((a, b) => a[0] - b[0]);
    output.replaceChildren(digits(bps * 8 / 1e6) + ' Mbps: ');
    ranked.slice(0, 6).forEach(([value, id], rank) => {
      const name = document.createElement(rank ? 'span' : 'b');
      name.textContent = id + ' ' + shown(value);
      output.append(rank ? ' · ' : '', name);
    });
  };
  output.textContent = idle;
  for (const svg of document.querySelectorAll('svg[data-left]')) {
    const left = Number(svg.dataset.left), right = Number(svg.dataset.right);
    const hair = svg.querySelector('.hover');
    svg.addEventListener('pointermove', (event) => {
      const box = svg.getBoundingClientRect();
      const x = (event.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
      const share = (x - left) / (right - left);
      if (share < 0 || share > 1) return;
      hair.setAttribute('x1', x);
      hair.setAttribute('x2', x);
      hair.style.visibility = 'visible';
      say(low * (high / low) ** share);
    });
    svg.addEventListener('pointerleave', () => {
      hair.style.visibility = 'hidden';
      output.textContent = idle;
    });
  }
})();
"""
