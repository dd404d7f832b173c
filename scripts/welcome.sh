#!/usr/bin/env bash
# welcome.sh DATA: reads the server's `ready URL` from standard input, deploys the samples, and shows on one
# screen where they are and what to try next.
set -uo pipefail

data=$1
virga=${CARGO_TARGET_DIR:-target}/release/virga

read -r word endpoint || exit 0
[ "$word" = ready ] || exit 1

# The server just started is meant, whatever AWS variables this shell has.
unset "${!AWS_@}"
client() { "$virga" "$@" --data "$data" --endpoint "$endpoint"; }
key() { sed -n "s/^$1 = //p" "$data/credentials"; }

lines=
# needs SAMPLE: the interpreter that it cannot be deployed without, if it is one that not every machine has.
needs() {
    case $1 in
        *-php) echo php ;;
        *-ruby) echo ruby ;;
        *-java) echo javac ;;
        *-rust) echo rustc ;;
        *-go) echo go ;;
    esac
}

for sample in examples/*/; do
    sample=${sample%/}
    needed=$(needs "$sample")
    if [ -n "$needed" ] && ! command -v "$needed" >/dev/null 2>&1; then
        lines+=$(printf '  %-14sleft out: there is no %s on this machine' "${sample#examples/}" "$needed")$'\n'
        continue
    fi
    # What is deployed is compiled.
    case $sample in *-java | *-rust | *-go) "$sample/build.sh" ;; esac
    if deployed=$(client deploy "$sample"); then
        # The last lines are the URLs, indented.
        urls=$(printf '%s\n' "$deployed" | grep '^  http')
        lines+=$(printf '%s\n' "$urls" | awk -v name="${sample#examples/}" \
            'NR == 1 { printf "  %-14s%s\n", name, $1 } NR > 1 { printf "  %-14s%s\n", "", $1 }')$'\n'
    else
        lines+="  ${sample#examples/}: not deployed, see above"$'\n'
    fi
done

# The commands below look in .virga themselves.
where=
[ "$data" = .virga ] || where=" --data $data"

cat <<END

Virga is running. Ctrl-C stops it.

$lines
  endpoint      $endpoint   region $(key region)
  access key    $(key aws_access_key_id)
  secret key    $(key aws_secret_access_key)
                (kept in $data/credentials)

Try next, in another terminal:
  curl '$endpoint/_fn/hello-python/?name=Ada'
  $virga invoke hello-node '{"name": "Ada"}' --tail$where
  $virga logs hello-python -f$where
  $virga deploy examples/hello-python$where    # after a change to handler.py
  AWS_SHARED_CREDENTIALS_FILE=$data/credentials aws lambda list-functions    # or boto3, or any SDK

END
