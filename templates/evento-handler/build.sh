#!/bin/sh
# Makes the program of a function: build.sh FILE. The Dockerfile runs it in the
# image's build, and evento dev on the developer's machine, in the same folder of
# files: this template, and over its function/ the author's.
#
# A function that is one package of a larger Go module names it (build_args in
# stack.yml), and its folder in function/ is that of the module, or a part of it:
#   MODULE    import path of function/; default what its go.mod says (the template's is there without one)
#   PACKAGE   the function's folder in function/; default function/ itself
# TARGETOS, TARGETARCH: what to build for; default this machine. Tests run here.
set -eu
out=${1:?build.sh FILE}
cd "$(dirname "$0")"
GOWORK=$PWD/go.work
# Without paths what was compiled for one function is of use for the next, too.
GOFLAGS="-trimpath -buildvcs=false ${GOFLAGS:-}"
export GOWORK GOFLAGS CGO_ENABLED=0

if [ -n "${MODULE:-}" ]; then
	sed "s#^module .*#module $MODULE#" function/go.mod > go.mod.new
	mv go.mod.new function/go.mod
fi
module=$(sed -n 's/^module[[:space:]]*//p' function/go.mod)
package=$module${PACKAGE:+/$PACKAGE}
sed "s#\"handler/function#\"$package#" main.go > main.go.new
mv main.go.new main.go

if ! { go vet . "$package/..." && go test "$package/..."; }; then
	echo "build.sh: checked was function/${PACKAGE:-}. It holds your files over those of the template's example:" >&2
	echo "build.sh: faas-cli leaves the example's handler.go and handler_test.go there unless you have files of these names." >&2
	exit 1
fi
GOOS=${TARGETOS:-} GOARCH=${TARGETARCH:-} go build -ldflags "-s -w" -o "$out" .
