#!/bin/bash
# Stands in for programs that shell blocks of the documentation call (functional/docs_blocks_spec.lua), under the name of each:
# for those that do not end by themselves, which a reader leaves running in a terminal; for those that would take minutes; and for
# those that change the machine, whose arguments are checked. Everything else in a block is the real program.
#
# TIDEGATE_TRIED    what was called, and what it printed
# TIDEGATE_ROOT     the installed tree, which stands for /
# TIDEGATE_SOURCE   the tree of sources
set -euo pipefail
name=${0##*/}
echo "$name" >>"$TIDEGATE_TRIED/calls"

refuse() {
    echo "stand-in for $name: $*" | tee -a "$TIDEGATE_TRIED/refused" >&2
    exit 1
}

# Runs a program in a terminal of its own; goes on when it has printed PATTERN, as a reader would.
terminal() { # PATTERN PROGRAM [ARGUMENTS]
    local pattern=$1 out
    shift
    out=$(mktemp "$TIDEGATE_TRIED/terminal-XXXXXX")
    (
        code=0
        # --foreground: else it sends SIGCONT behind the signal that ends it, and a leak sanitizer that has just stopped
        # the process for its last look waits for ever
        timeout --foreground 300 "$@" </dev/null >"$out" 2>&1 &
        echo "$!" >"$out.started"
        mv "$out.started" "$out.pid"
        wait "$!" || code=$?
        echo "$code" >"$out.ended"
        mv "$out.ended" "$out.code" # complete when it is there
    ) >/dev/null 2>&1 &
    for _ in $(seq 1200); do
        if grep -qE "$pattern" "$out"; then
            exit 0
        elif [ -e "$out.code" ] && [ -n "${may_end-}" ]; then
            cat "$out" >&2
            exit "$(cat "$out.code")"
        elif [ -e "$out.code" ]; then
            break
        fi
        command sleep 0.05
    done
    refuse "$* did not print $pattern: $(cat "$out")"
}

# curl that fails as a reader would see it fail
ask() {
    exec /usr/bin/curl --fail-with-body --max-time 60 "$@"
}

in_image() { # ARGUMENTS of podman run: runs the image's program, with volumes where they are on this machine
    local -a words=() volumes=()
    local word volume host to
    while [ $# -gt 0 ]; do
        case $1 in
        --rm) ;;
        --user | -p) shift ;;
        -v) volumes+=("$2") && shift ;;
        -*) refuse "unexpected: $1" ;;
        *) break ;;
        esac
        shift
    done
    [ "${1-}" = tidegate ] || refuse "the image that was built is tidegate"
    shift
    grep -qx 'ENTRYPOINT \["tidegate"\]' conf/container/Containerfile || refuse "another entry point"
    for word in "${@:-serve}"; do
        for volume in "${volumes[@]}"; do
            IFS=: read -r host to _ <<<"$volume"
            [ "$word" = "$to" ] && word=$host
        done
        words+=("$word")
    done
    for volume in "${volumes[@]}"; do
        IFS=: read -r host to _ <<<"$volume"
        [ "$to" = "$TIDEGATE_ROOT/etc/tidegate" ] && export TIDEGATE_CONF=$host/tidegate.lua
    done
    # as the image sets it; a container has a /var/lib/tidegate of its own
    export TIDEGATE_LISTEN=127.0.0.1:$TIDEGATE_OTHER_PORT TIDEGATE_ADMIN=127.0.0.1:0
    TIDEGATE_STORE=$(mktemp -d "$TIDEGATE_TRIED/volume-XXXXXX")
    export TIDEGATE_STORE
    exec tidegate "${words[@]}"
}

case $name in
tidegate)
    real=$TIDEGATE_ROOT/usr/bin/tidegate
    case ${1-} in
    serve) terminal ' msg=ready ' "$real" "$@" ;;
    subscribe)
        # with -n it ends after events that are there, or where it is refused
        [[ " $* " == *" -n "* && " $* " == *" --from "* ]] && exec timeout --foreground 60 "$real" "$@"
        [[ " $* " == *" -n "* ]] && may_end=yes
        terminal 'connected to ' "$real" "$@"
        ;;
    *) exec "$real" "$@" ;;
    esac
    ;;
curl)
    case " $* " in
    *' -N '*) terminal '^id: ' /usr/bin/curl -sS --fail-with-body "$@" ;;
    *) ask "$@" ;;
    esac
    ;;
tail) # -f: to the end that the file has now
    [ "$1" = -f ] || refuse "unexpected: $1"
    exec cat "${@:2}"
    ;;
tidegate-bench) # the same on four connections, for a moment
    words=() port=$TIDEGATE_PORT
    while [ $# -gt 0 ]; do
        case $1 in
        --connections | --publishers) words+=("$1" 4) && shift ;;
        --preload) words+=("$1" 20) && shift ;;
        --slow) words+=("$1" 1) && shift ;;
        snapshot | conflate) words+=("$1" --topics 20) && latest=yes ;;
        --seconds) shift ;;
        --tls) words+=("$1") && port=$TIDEGATE_TLS_PORT ;;
        *) words+=("$1") ;;
        esac
        shift
    done
    if [ -n "${latest-}" ]; then # they want another policy: here it is seen that there are such words
        code=0
        "$TIDEGATE_ROOT/usr/bin/tidegate-bench" "${words[@]}" --port 1 --seconds 0.2 >"$TIDEGATE_TRIED/latest" 2>&1 || code=$?
        [ "$code" -eq 1 ] || refuse "tidegate-bench ${words[*]}: code $code"
        exit 0
    fi
    exec "$TIDEGATE_ROOT/usr/bin/tidegate-bench" "${words[@]}" --port "$port" --seconds 0.2 --warmup 0 --spread 0.1 --settle 0.1
    ;;
pidof)
    cat "$(grep -lE ' msg=ready ' "$TIDEGATE_TRIED"/terminal-?????? | head -1).pid"
    ;;
tidegate_spec) # takes minutes
    [ -f "$TIDEGATE_SOURCE/$1" ] || refuse "no such file: $1"
    ;;
deps | run) # .ci
    [ -x "$TIDEGATE_SOURCE/.ci/$name" ] && bash -n "$TIDEGATE_SOURCE/.ci/$name"
    ;;
make) # what it would do; of that only the broker is started
    for word in "$@"; do
        [[ $word != SPEC=* || -e $TIDEGATE_SOURCE/${word#SPEC=} ]] || refuse "no such file: $word"
    done
    /usr/bin/make --no-print-directory --dry-run "$@" >"$TIDEGATE_TRIED/plan" || refuse "has no target $*"
    while read -r line; do
        case $line in
        "exec build/release/tidegate serve "*) ${line#exec } ;;
        *" cpack -G DEB") mkdir -p build/release/packages && touch build/release/packages/tidegate_0_any.deb ;;
        esac
    done <"$TIDEGATE_TRIED/plan"
    ;;
sudo)
    exec "$@"
    ;;
apt-get)
    [ "$1" = install ] || refuse "unexpected: $1"
    for package in "${@:2}"; do
        [ -f "$package" ] || refuse "no such package: $package"
    done
    ;;
systemd-sysusers) # its files are those of the package
    [ $# -eq 0 ] && ls "$TIDEGATE_ROOT"/usr/lib/sysusers.d/*.conf >/dev/null
    ;;
systemd-tmpfiles)
    [ "$1" = --create ] && [ -f "$TIDEGATE_ROOT/usr/lib/tmpfiles.d/$2" ]
    ;;
systemctl)
    verb=$1
    shift
    [ "${1-}" = --now ] && shift
    case $verb in
    daemon-reload) [ $# -eq 0 ] ;;
    enable | restart | reload)
        for unit in "$@"; do
            [[ $unit == *.* ]] || unit=$unit.service
            [ -f "$TIDEGATE_ROOT/usr/lib/systemd/system/$unit" ] || refuse "no such unit: $unit"
        done
        ;;
    *) refuse "unexpected: $verb" ;;
    esac
    ;;
podman)
    case $1 in
    build)
        [ "$*" = "build -f conf/container/Containerfile -t tidegate ." ] && [ -f conf/container/Containerfile ]
        ;;
    run) in_image "${@:2}" ;;
    *) refuse "unexpected: $1" ;;
    esac
    ;;
certbot) # a certificate of its own, which it gives to the hook, as its manual says
    [ "$1 $2 $3 $5 $7" = "certonly --webroot -w -d --deploy-hook" ] && [ -d "$4" ] && [ -x "$8" ]
    export RENEWED_LINEAGE=$TIDEGATE_TRIED/live/$6
    mkdir -p "$RENEWED_LINEAGE"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=$6" \
        -keyout "$RENEWED_LINEAGE/privkey.pem" -out "$RENEWED_LINEAGE/fullchain.pem" 2>/dev/null
    "$8"
    ;;
*)
    refuse "nothing is known of it"
    ;;
esac
