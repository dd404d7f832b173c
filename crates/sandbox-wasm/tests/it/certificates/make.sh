#!/bin/sh
# Makes the certificates that the tests of https serve, and keys that vouch for nothing else. What they are is their name;
# all but the expired one are valid until 2120, so that nobody has to run this again. Needs openssl.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir issued

# one NAME EXTENSIONS FROM UNTIL [SIGNER]: without a signer it signs itself.
one() {
    : >index && printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index\nnew_certs_dir=issued\nrand_serial=yes\ndefault_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n[e]\n%s\n' "$2" >config
    openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1.key"
    openssl req -new -key "$1.key" -subj "/CN=Virga's tests: $1" -out request
    if [ $# -eq 5 ]; then signer="-cert $5.pem -keyfile $5.key"; else signer="-selfsign -keyfile $1.key"; fi
    # shellcheck disable=SC2086 # words of an option
    openssl ca -batch -notext -config config -extensions e -startdate "$3" -enddate "$4" $signer -in request -out "$1.pem" 2>log || { cat log; exit 1; }
}

here_names=subjectAltName=DNS:localhost,IP:127.0.0.1
one authority 'basicConstraints=critical,CA:TRUE' 20200101000000Z 21200101000000Z
one good "$here_names" 20200101000000Z 21200101000000Z authority
one elsewhere subjectAltName=DNS:elsewhere.test 20200101000000Z 21200101000000Z authority
one expired "$here_names" 20200101000000Z 20210101000000Z authority
one own "$here_names" 20200101000000Z 21200101000000Z
rm authority.key
mv ./*.pem ./*.key "$here"
