#!/usr/bin/env bash
# Builds the documentation of every library, from its DocC catalog and its doc comments: Makefiles/documentation.sh [swift's FLAGS…]
# A link that leads nowhere, or a parameter left out where others are documented, is an error.
set -euo pipefail
swift=${SWIFT:-swift}
docc=$(command -v docc || xcrun --find docc)
"$swift" package "$@" dump-symbol-graph
build=$(dirname "$("$swift" build --show-bin-path)")

for catalog in Sources/*/*.docc; do
    library=$(basename "$catalog" .docc)
    graph=$build/documentation/$library.symbols
    mkdir -p "$graph"
    cp "$build/symbolgraph/$library.symbols.json" "$graph"
    "$docc" convert "$catalog" --additional-symbol-graph-dir "$graph" --fallback-display-name "$library" \
        --fallback-bundle-identifier "$library" --output-path "$build/documentation/$library.doccarchive" --warnings-as-errors
done
echo "the documentation is in $build/documentation"
