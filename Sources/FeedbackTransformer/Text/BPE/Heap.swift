/// A binary heap: the first comes first.
struct Heap<Element: Comparable> {
    private var elements: [Element]

    init(_ elements: [Element]) {
        // Sorted is a heap.
        self.elements = elements.sorted()
    }

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
        if elements.isEmpty { return first }
        elements[0] = last
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2]
            where child < elements.count && elements[child] < elements[least] { least = child }
            if least == parent { return first }
            elements.swapAt(parent, least)
            parent = least
        }
    }
}
