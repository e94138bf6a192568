#!/usr/bin/env bash
# lighthouse.sh URL [PATH...]: five desktop runs of Lighthouse per path of a running server, and their medians.
# RUNS=3 changes the number of runs. Needs Node.js, npm and /usr/bin/chromium; keeps Lighthouse in .cache/.
# Use an otherwise idle machine: the performance score is a measurement of time.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=13.5.0
base=${1:?usage: lighthouse.sh URL [PATH...]}
shift
[ $# -gt 0 ] || set -- /
runs=${RUNS:-5}
home=.cache/lighthouse
program=$home/node_modules/.bin/lighthouse

export CHROME_PATH=${CHROME_PATH:-/usr/bin/chromium}
if [ "$("$program" --version 2>/dev/null)" != "$version" ]; then
  echo "Installing Lighthouse $version into $home ..."
  mkdir -p "$home"
  npm install --prefix "$home" --no-audit --no-fund --ignore-scripts --loglevel=error "lighthouse@$version" >/dev/null
fi

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
flags="--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
flags="$flags --disable-component-update --disable-sync"

for path in "$@"; do
  for ((run = 1; run <= runs; run++)); do
    "$program" "${base%/}$path" --preset=desktop --quiet --no-enable-error-reporting --chrome-flags="$flags" \
      --only-categories=performance,accessibility,best-practices,seo \
      --output=json --output-path="$results/$run.json"
  done
  node - "$path" "$results" <<'EOF'
const fs = require("fs");
const [path, folder] = process.argv.slice(2);
const reports = fs.readdirSync(folder).map((name) => JSON.parse(fs.readFileSync(`${folder}/${name}`)));
const median = (pick) => reports.map(pick).sort((a, b) => a - b)[Math.floor(reports.length / 2)];
const value = (audit) => (report) => report.audits[audit].numericValue;
const requests = (report) => report.audits["network-requests"].details.items;
const kilobytes = (pick) => (median((r) => requests(r).filter(pick).reduce((sum, i) => sum + (i.transferSize || 0), 0)) / 1000).toFixed(1);
const score = (name) => Math.round(100 * median((r) => r.categories[name].score));
const all = reports.map((r) => Math.round(100 * r.categories.performance.score)).join(" ");
console.log(`${path}  (median of ${reports.length})`);
console.log(`  performance ${score("performance")} (${all})  accessibility ${score("accessibility")}  best practices ${score("best-practices")}  SEO ${score("seo")}`);
console.log(`  layout shift ${median(value("cumulative-layout-shift")).toFixed(4)}  FCP ${Math.round(median(value("first-contentful-paint")))} ms  LCP ${Math.round(median(value("largest-contentful-paint")))} ms  blocking ${Math.round(median(value("total-blocking-time")))} ms`);
const kinds = [...new Set(reports.flatMap((r) => requests(r).map((i) => i.resourceType)))].sort();
console.log(`  transferred ${kilobytes(() => true)} kB in ${median((r) => requests(r).length)} requests: ` + kinds.map((kind) => `${kind} ${kilobytes((i) => i.resourceType === kind)}`).join(", "));
const origin = new URL(reports[0].finalDisplayedUrl).origin;
const away = [...new Set(reports.flatMap((r) => requests(r).map((i) => i.url)))].filter((url) => /^(https?|wss?):/.test(url) && new URL(url).origin !== origin);
if (away.length) console.log(`  LEFT THE SERVER: ${away.join(" ")}`);
const last = reports[reports.length - 1];
for (const name of ["performance", "accessibility", "best-practices", "seo"])
  for (const { id, weight } of last.categories[name].auditRefs)
    if (weight && last.audits[id].score !== null && last.audits[id].score < 0.9) console.log(`  ${name}: ${last.audits[id].title} ${last.audits[id].displayValue || ""}`);
EOF
  rm -f "$results"/*.json
done
