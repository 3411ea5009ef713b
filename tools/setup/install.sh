#!/usr/bin/env bash
# Installs what the build and the tests need beyond the language toolchains, and says what it does.
# Safe to run again; does nothing where nothing is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# Toolchains: these are the machine's own; without cargo nothing works, the others build chaincode,
# the console and the examples.
for tool in cargo npm node go python3 cc git openssl; do
  command -v "$tool" >/dev/null || fail "$tool is missing: install it and run this again"
done

# Debian packages: the sandbox for chaincode, and for the console's test a browser and a font that
# has Chinese, without which its pictures show boxes.
packages=()
has_chinese_font() { command -v fc-list >/dev/null && [[ -n $(fc-list :lang=zh) ]]; }
command -v bwrap >/dev/null || packages+=(bubblewrap)
command -v chromium >/dev/null || packages+=(chromium)
has_chinese_font || packages+=(fontconfig fonts-wqy-microhei)
command -v curl >/dev/null || packages+=(curl)
# Tests that cut networks apart give orderers network namespaces.
command -v ip >/dev/null || packages+=(iproute2)
if ((${#packages[@]})); then
  if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    say "apt-get install ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
  else
    say "MISSING: ${packages[*]} (install them; the tests that need them will say that they did not run)"
  fi
fi

# Python packages for the conformance tests, in an environment of their own.
requirements=tests/conformance/requirements.txt
stamp=build/venv/.installed
if ! cmp -s "$requirements" "$stamp"; then
  say "python packages of $requirements into build/venv"
  mkdir -p build
  python3 -m venv build/venv
  build/venv/bin/pip install --quiet --disable-pip-version-check --requirement "$requirements"
  cp "$requirements" "$stamp"
fi
