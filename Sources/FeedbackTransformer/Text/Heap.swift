/// A binary heap: the first comes first.
struct Heap<Element: Comparable> {
    /// In no order, but that the first is the first.
    private(set) var elements: [Element]

    init(_ elements: [Element]) {
        // Sorted is a heap.
        self.elements = elements.sorted()
    }

    var first: Element? { elements.first }

    mutating func insert(_ element: Element) {
        elements.append(element)
        var child = elements.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard elements[child] < elements[parent] else { break }
            elements.swapAt(child, parent)
            child = parent
        }
    }

    mutating func popFirst() -> Element? {
        guard let first = elements.first, let last = elements.popLast() else { return nil }
        if !elements.isEmpty { replaceFirst(with: last) }
        return first
    }

    mutating func replaceFirst(with element: Element) {
        elements[0] = element
        var (parent, child) = (0, 1)
        while child < elements.count {
            if child + 1 < elements.count && elements[child + 1] < elements[child] { child += 1 }
            guard elements[child] < elements[parent] else { return }
            elements.swapAt(child, parent)
            (parent, child) = (child, 2 * child + 1)
        }
    }
}
