import FeedbackTransformer

/// Sums what all workers have computed of a batch, on however many machines, always in the same order: R ranks of t threads give the
/// same bits as one process of R·t.
///
/// Partial gradients are summed in pairs, then pairs of pairs: of six workers ((0 + 1) + (2 + 3)) + (4 + 5). A rank sums what of this
/// tree is its own workers' alone, gives every other rank its shard of that, and sums its own shard to the end. It is alone in
/// updating it, and gives what has become of it to all: 8 bytes a parameter, of which it sends a share of (R − 1) / R.
struct GradientReduction {
    let communicator: any Communicator
    /// By rank, of the workers of all.
    let workers: [Range<Int>]
    /// The parameters that are trained, in blocks.
    let blocks: [Block]
    /// By rank, of the blocks.
    private let shards: [Range<Int>]
    /// By rank, the elements of its blocks.
    private let parts: [[Range<Int>]]
    /// By rank, all from its first block to the next rank's: what this training leaves as it is too.
    private let wholes: [Range<Int>]
    /// By rank, what of the tree is its own alone.
    private let subtrees: [[Range<Int>]]
    /// What other ranks have given of a slice of this one's shard: by how manieth of their subtrees, [ranks that have so many, slice].
    private let received: [Buffer<State>]
    /// Shards are exchanged in slices of so many blocks, 4 MiB, so that little need be kept of other ranks' gradients.
    private static let sliceBlocks = 256

    /// What is updated at once, and whether it decays. A norm is summed up block by block, whoever has which.
    struct Block {
        let range: Range<Int>
        let decays: Bool
        static let size = 4096
    }

    /// - Parameters:
    ///   - communicator: the ranks.
    ///   - threads: of this rank.
    ///   - rows: of a batch.
    ///   - table: of the parameters.
    ///   - reach: the farthest offset of a memory.
    ///   - executor: whose memory gradients are in.
    init(
        _ communicator: any Communicator, threads: Int, rows: Int, _ table: ParameterTable, reach: Int,
        executor: some Executor
    ) {
        let workers = Self.workers(communicator.allGather([threads]).map { $0[0] }, rows: rows)
        let blocks = table.trainable(reach: reach).flatMap { part in
            stride(from: part.range.lowerBound, to: part.range.upperBound, by: Block.size).map {
                Block(range: $0..<min($0 + Block.size, part.range.upperBound), decays: part.decays)
            }
        }
        let shards = Self.shards(blocks, LinearMaps(table).pieces, count: workers.count)
        let subtrees = workers.map { Self.subtrees(of: 0..<workers.last!.upperBound, within: $0) }
        let rank = communicator.rank
        let own = min(shards[rank].count, Self.sliceBlocks) * Block.size
        received = (0..<subtrees.map(\.count).max()!).map { number in
            let others = subtrees.indices.count { $0 != rank && number < subtrees[$0].count }
            return executor.state(others, own)
        }
        parts = shards.map { Self.runs(blocks[$0]) }
        let starts =
            [0]
            + shards.dropFirst().map {
                $0.lowerBound < blocks.count ? blocks[$0.lowerBound].range.lowerBound : table.count
            }
        wholes = zip(starts, starts.dropFirst() + [table.count]).map { $0..<$1 }
        self.communicator = communicator
        self.workers = workers
        self.blocks = blocks
        self.shards = shards
        self.subtrees = subtrees
    }

    /// Who has which of as many workers as all threads, at most one a row: by rank.
    static func workers(_ threads: [Int], rows: Int) -> [Range<Int>] {
        let total = threads.reduce(0, +)
        let count = min(total, rows)
        var before = 0
        return threads.map { own in
            defer { before += own }
            return count * before / total..<count * (before + own) / total
        }
    }

    /// Cuts blocks into shards of nearly equal size, by rank, but never within a piece.
    private static func shards(_ blocks: [Block], _ pieces: [Range<Int>], count: Int) -> [Range<Int>] {
        var (places, before) = ([(index: 0, before: 0)], 0)
        for (index, block) in blocks.enumerated() {
            let start = block.range.lowerBound
            if !pieces.contains(where: { $0.lowerBound < start && start < $0.upperBound }) {
                places.append((index, before))
            }
            before += block.range.count
        }
        places.append((blocks.count, before))
        let cuts = (0...count).map { rank in
            let wanted = before * rank / count
            return places.min { abs($0.before - wanted) < abs($1.before - wanted) }!.index
        }
        return zip(cuts, cuts.dropFirst()).map { $0..<$1 }
    }

    /// What of the tree over some workers lies in a range of them, in as few subtrees as there are.
    static func subtrees(of tree: Range<Int>, within own: Range<Int>) -> [Range<Int>] {
        if !tree.overlaps(own) { return [] }
        if own.clamped(to: tree) == tree { return [tree] }
        let (left, right) = halves(tree)
        return subtrees(of: left, within: own) + subtrees(of: right, within: own)
    }

    /// The left half is the largest power of two of workers that is not all.
    private static func halves(_ tree: Range<Int>) -> (Range<Int>, Range<Int>) {
        var half = 1
        while 2 * half < tree.count { half *= 2 }
        return (tree.lowerBound..<tree.lowerBound + half, tree.lowerBound + half..<tree.upperBound)
    }

    /// The ranges of blocks, neighbours as one.
    private static func runs(_ blocks: some Sequence<Block>) -> [Range<Int>] {
        blocks.reduce(into: []) { runs, block in
            if let last = runs.last, last.upperBound == block.range.lowerBound {
                runs[runs.count - 1] = last.lowerBound..<block.range.upperBound
            } else {
                runs.append(block.range)
            }
        }
    }

    /// How many workers there are in all, and which are this rank's.
    var count: Int { workers.last!.upperBound }
    var own: Range<Int> { workers[communicator.rank] }
    var shard: Range<Int> { shards[communicator.rank] }
    /// This rank's elements.
    var whole: Range<Int> { wholes[communicator.rank] }

    /// Whether unfolding a parameter is this rank's work.
    func owns(_ parameter: Parameter) -> Bool {
        whole.contains(parameter.range.upperBound - 1)
    }

    // MARK: Gradients

    /// Sums blocks as far as this rank's workers go.
    func sumOwn(_ partials: [Matrix<State>], _ range: Range<Int>, on executor: some Executor) {
        for block in blocks[range] {
            for tree in subtrees[communicator.rank] {
                _ = sum(tree, on: executor) {
                    $0.count == 1 ? partials[$0.lowerBound - own.lowerBound].elements(block.range) : nil
                }
            }
        }
    }

    /// How many slices the largest shard has.
    var slices: Int { (shards.map(\.count).max()! + Self.sliceBlocks - 1) / Self.sliceBlocks }

    /// The blocks of a slice of a rank's shard; of a small shard none.
    private func slice(_ number: Int, of rank: Int) -> Range<Int> {
        let first = shards[rank].lowerBound + number * Self.sliceBlocks
        return (first..<first + Self.sliceBlocks).clamped(to: shards[rank])
    }
    func slice(_ number: Int) -> Range<Int> { slice(number, of: communicator.rank) }

    /// Gives the other ranks a slice of their shards, and gets one of this rank's.
    func exchange(slice: Int, of partials: [Matrix<State>]) {
        let parts = shards.indices.map { rank in
            Self.runs(blocks[self.slice(slice, of: rank)]).map { Self.bytes($0, partials[0].elementSize) }
        }
        for (number, buffer) in received.enumerated() {
            let own = subtrees[communicator.rank]
            let first = number < own.count ? own[number].lowerBound - self.own.lowerBound : 0
            communicator.scatter(
                partials[first].base, parts, from: subtrees.indices.filter { number < subtrees[$0].count },
                into: buffer.all.base)
        }
    }

    /// Sums blocks of a slice of this rank's shard to the end, into the first partial gradient.
    func sum(_ range: Range<Int>, slice: Int, of partials: [Matrix<State>], on executor: some Executor) {
        let slice = self.slice(slice)
        let width = blocks[slice].reduce(0) { $0 + $1.range.count }
        var place = blocks[slice.lowerBound..<range.lowerBound].reduce(0) { $0 + $1.range.count }
        for block in blocks[range] {
            var leaves: [Range<Int>: Matrix<State>] = [:]
            for (number, buffer) in received.enumerated() {
                var row = 0
                for (rank, trees) in subtrees.enumerated() where number < trees.count {
                    if rank == communicator.rank {
                        leaves[trees[number]] = partials[trees[number].lowerBound - own.lowerBound].elements(
                            block.range)
                    } else {
                        let start = row * width + place
                        leaves[trees[number]] = buffer.all.elements(start..<start + block.range.count)
                        row += 1
                    }
                }
            }
            let result = sum(0..<count, on: executor) { leaves[$0] }
            let wanted = partials[0].elements(block.range)
            if result.base != wanted.base { executor.copy(result, into: wanted) }
            place += block.range.count
        }
    }

    /// Sums a tree from what is known of it, into its leftmost part.
    private func sum(
        _ tree: Range<Int>, on executor: some Executor, of known: (Range<Int>) -> Matrix<State>?
    ) -> Matrix<State> {
        if let known = known(tree) { return known }
        let (left, right) = Self.halves(tree)
        let result = sum(left, on: executor, of: known)
        executor.add(sum(right, on: executor, of: known), accumulatingInto: result)
        return result
    }

    // MARK: Parameters and losses

    /// Gives all ranks what each has of its shard.
    func gather(_ matrix: Matrix<State>) {
        let parts = parts.map { $0.map { Self.bytes($0, matrix.elementSize) } }
        communicator.allGather(matrix.base, parts)
    }

    /// The same of numbers on the host, those too that this training leaves as they are.
    func gather(_ values: inout [Float]) {
        if communicator.ranks == 1 { return }
        let parts = wholes.map { [Self.bytes($0, MemoryLayout<Float>.size)] }
        values.withUnsafeMutableBytes { communicator.allGather($0.baseAddress!, parts) }
    }

    /// Gives the first rank what each has; nil on the others.
    func collect(_ store: ParameterStore) -> Parameters? {
        if communicator.ranks == 1 { return store.host }
        precondition(store.all.elementSize == MemoryLayout<Float>.size, "numbers as the host has them")
        var values = communicator.isFirst ? store.host : nil
        for sender in 1..<communicator.ranks {
            let part = Self.bytes(wholes[sender], MemoryLayout<Float>.size)
            let parts = [[part]] + Array(repeating: [], count: communicator.ranks - 1)
            func exchange(_ place: UnsafeMutableRawPointer) {
                communicator.scatter(store.all.base, parts, from: [sender], into: place)
            }
            if values == nil {
                exchange(store.all.base)
            } else {
                values!.values.withUnsafeMutableBytes { exchange($0.baseAddress! + part.lowerBound) }
            }
        }
        return values
    }

    /// The same of [slots, rows of a batch, width] on the host, of which each rank has its rows.
    func gather(_ values: inout [Float], rows: Int, width: Int) {
        if communicator.ranks == 1 { return }
        let stride = rows * width * MemoryLayout<Float>.size
        values.withUnsafeMutableBytes { bytes in
            let parts = workers.map { own in
                let (from, to) = (rows * own.lowerBound / count, rows * own.upperBound / count)
                return Swift.stride(from: 0, to: bytes.count, by: stride).map {
                    $0 + from * stride / rows..<$0 + to * stride / rows
                }
            }
            if !bytes.isEmpty { communicator.allGather(bytes.baseAddress!, parts) }
        }
    }

    private static func bytes(_ elements: Range<Int>, _ size: Int) -> Range<Int> {
        size * elements.lowerBound..<size * elements.upperBound
    }

    /// What all workers have summed up, of the last job's batches.
    func sum(_ own: [CrossEntropySum]) -> CrossEntropySum {
        communicator.allGather(own).joined().reduce(into: CrossEntropySum()) { $0 += $1 }
    }
}
