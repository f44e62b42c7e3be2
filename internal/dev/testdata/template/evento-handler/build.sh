#!/bin/sh
# A template without runtime: function/ is the program itself.
set -eu
cd "$(dirname "$0")"
export GOWORK=off CGO_ENABLED=0
go test ./function
go build -buildvcs=false -o "$1" ./function
