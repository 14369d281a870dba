#!/bin/sh
# Writes manual pages from what the programs say themselves: tidegate(1) and one for each command from `tidegate help`,
# tidegate-bench(1), tidegate.lua(5) from the schema of the configuration, tidegate-policy(7) from the stubs of policies.
# usage: manual.sh TIDEGATE TIDEGATE-BENCH STUBS DIRECTORY
set -eu

tidegate=$1 bench=$2 stubs=$3 to=$4
version=$("$tidegate" version | awk 'NR == 1 { print $2 }')
mkdir -p "$to"

# roff takes a backslash, and a dot or a quote at the beginning of a line, for its own
ESCAPE='function roff(t) { gsub(/\\/, "\\e", t); gsub(/-/, "\\-", t); if (t ~ /^[.'\'']/) t = "\\&" t; return t }'

# The help of a command, from standard input: page NAME, section, program's words before it
help_page() {
    awk -v name="$1" -v section="$2" -v version="$version" "$ESCAPE"'
    function flush(  i, block) {
        if (!n) return
        for (i = 1; i <= n; i++) block = block || lines[i] ~ /^ /
        print block ? ".PP\n.nf" : ".PP"
        for (i = 1; i <= n; i++) print roff(lines[i])
        if (block) print ".fi"
        n = 0
    }
    NR == 1 { sub(/^usage: /, ""); usage = $0; next }
    !summary && NF { summary = $0; sub(/\.$/, "", summary)
        printf ".TH %s %s \"\" \"Tidegate %s\"\n.SH NAME\n%s \\- %s\n.SH SYNOPSIS\n\\fB%s\\fR\n.SH DESCRIPTION\n", toupper(roff(name)),
            section, version, roff(name), roff(summary), roff(usage)
        next }
    /^(Options|Commands|Modes):$/ { flush(); print ".SH " toupper(substr($0, 1, length($0) - 1)); table = 1; next }
    table && /^  [^ ]/ {
        at = match(substr($0, 3), /  +/)
        print ".TP\n\\fB" roff(at ? substr($0, 3, at - 1) : substr($0, 3)) "\\fR"
        if (at) print roff(substr($0, 2 + at + RLENGTH))
        next }
    table && /^   / { sub(/^ +/, ""); print roff($0); next }
    table && NF { table = 0 }
    NF { lines[++n] = $0; next }
    { flush() }
    END { flush() }'
}

see_also() {
    printf '.SH SEE ALSO\n'
    first=1
    for page in "$@"; do
        [ "$first" ] || printf ',\n'
        printf '.BR %s' "$(echo "$page" | sed 's/-/\\-/g; s/(/ (/')"
        first=
    done
    printf '\n'
}

commands=$("$tidegate" help | awk '/^Commands:/ { on = 1; next } on && !NF { exit } on && /^  [^ ]/ { print $1 }')
"$tidegate" help | help_page tidegate 1 >"$to/tidegate.1"
# shellcheck disable=SC2086,SC2046
see_also $(printf 'tidegate-%s(1) ' $commands) 'tidegate.lua(5)' 'tidegate-policy(7)' >>"$to/tidegate.1"
for command in $commands; do
    "$tidegate" help "$command" | help_page "tidegate-$command" 1 >"$to/tidegate-$command.1"
    see_also 'tidegate(1)' 'tidegate.lua(5)' >>"$to/tidegate-$command.1"
done
"$bench" --help | help_page tidegate-bench 1 >"$to/tidegate-bench.1"
see_also 'tidegate(1)' >>"$to/tidegate-bench.1"

# Markdown tables: | key | value | default | meaning |
"$tidegate" config-reference | awk -v version="$version" "$ESCAPE"'
    function plain(t) { gsub(/`/, "", t); gsub(/\\\|/, "|", t); return roff(t) }
    BEGIN { printf ".TH TIDEGATE.LUA 5 \"\" \"Tidegate %s\"\n.SH NAME\ntidegate.lua \\- configuration of the broker\n.SH DESCRIPTION\n", version }
    /^## / || /^\|---/ || /^\| key / { next }
    /^### / { sub(/^### /, ""); print ".SH \"" plain($0) "\""; next }
    /^\| / {
        gsub(/\\\|/, "\001"); split($0, f, / ?\| ?/); gsub(/\001/, "|", f[5]); gsub(/\001/, "|", f[3])
        print ".TP\n\\fB" plain(f[2]) "\\fR\n" plain(f[5]) "\nValue: " plain(f[3]) ".\n" (f[4] == "required" ? "It is required." : "Default: " plain(f[4]) ".")
        next }
    NF { print plain($0); next }
    { print ".PP" }' >"$to/tidegate.lua.5"
see_also 'tidegate(1)' 'tidegate-check(1)' 'tidegate-policy(7)' >>"$to/tidegate.lua.5"

awk -v version="$version" "$ESCAPE"'
    BEGIN { printf ".TH TIDEGATE\\-POLICY 7 \"\" \"Tidegate %s\"\n.SH NAME\ntidegate\\-policy \\- what a policy can use\n.SH DESCRIPTION\n", version
        print "A policy is a Lua file. These are the stubs of all that it can call, as the Lua language server reads them.\n.nf" }
    NR > 1 { print roff($0) }
    END { print ".fi" }' "$stubs" >"$to/tidegate-policy.7"
see_also 'tidegate(1)' 'tidegate-test(1)' 'tidegate-eval(1)' 'tidegate.lua(5)' >>"$to/tidegate-policy.7"
for page in "$to"/*.[157]; do
    gzip -9nf "$page"
done
