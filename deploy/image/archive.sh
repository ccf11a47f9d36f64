#!/bin/sh
# Builds the image from dist/ and packs it, for machines that reach no registry:
#
#   deploy/image/archive.sh dist/entrepot-image.tar
#   docker load -i entrepot-image.tar       # or podman load, or ctr image import
#
# With buildah, podman or docker, whichever is there; ENGINE names another, with options.
# BASE is the base image if not the Dockerfile's own, BUILD_ARGS more words for the build.
set -eu

archive=$1
context=${CONTEXT:-$(dirname "$0")/../..}
for engine in ${ENGINE:+"$ENGINE"} buildah podman docker none; do
  command -v "${engine%% *}" >/dev/null && break
done
if [ "$engine" = none ]; then
  echo "no buildah, podman or docker here: no $archive" >&2
  exit 0
fi

set -- "$context"/dist/entrepot-*.whl
if [ $# -ne 1 ] || [ ! -e "$1" ]; then
  echo "$context/dist must have one wheel of Entrepot (make wheel)" >&2
  exit 1
fi
version=$(basename "$1" | cut -d- -f2)
revision=$(git -C "$context" rev-parse HEAD 2>/dev/null || echo unknown)
name=entrepot:$version
program=$(basename "${engine%% *}")
case $program in
  # In Docker's format: OCI's has no place for the health check.
  buildah | podman) format="--format=docker" ;;
  *) format= ;;
esac

# shellcheck disable=SC2086 # words, on purpose
$engine build $format ${BUILD_ARGS-} -t "$name" -f "$context/deploy/Dockerfile" \
  ${BASE:+--build-arg=BASE="$BASE"} \
  --build-arg=VERSION="$version" --build-arg=REVISION="$revision" \
  --build-arg=CREATED="$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$context"
# Not compressed: podman of Debian 12 can't load it then.
rm -f "$archive"
case $program in
  buildah) $engine push --quiet "$name" "docker-archive:$archive:docker.io/library/$name" ;;
  *) $engine save -o "$archive" "$name" ;;
esac
ls -l "$archive"
