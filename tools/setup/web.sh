#!/usr/bin/env bash
# Builds the console into web/dist, unless that is newer than its sources.
set -euo pipefail
cd "$(dirname "$0")/../../web"

if [[ -f dist/index.html ]] &&
  [[ -z $(find . -path ./node_modules -prune -o -path ./dist -prune -o -type f -newer dist/index.html -print -quit) ]]; then
  exit 0
fi
echo "setup: npm ci and build in web"
npm ci --no-audit --no-fund --loglevel=error
npm run --silent build
