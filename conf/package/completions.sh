#!/bin/sh
# Writes what `tidegate completion` prints where shells look for it, below a folder that stands for .../share.
# usage: completions.sh TIDEGATE DIRECTORY
set -eu

put() {
    mkdir -p "$2"
    "$tidegate" completion "$1" >"$2/$3"
}

tidegate=$1 share=$2
put bash "$share/bash-completion/completions" tidegate
put zsh "$share/zsh/site-functions" _tidegate
put zsh "$share/zsh/vendor-completions" _tidegate # Debian's zsh does not look into /usr/share/zsh/site-functions
put fish "$share/fish/vendor_completions.d" tidegate.fish
