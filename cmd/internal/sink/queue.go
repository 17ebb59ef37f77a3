package sink

// queue takes items from requests, which never wait, to the one goroutine that
// writes them, which may have to.
type queue[T any] chan T

// put reports whether there was room.
func (q queue[T]) put(item T) bool {
	select {
	case q <- item:
		return true
	default:
		return false
	}
}

// each calls take for every item until ended is closed, and then for those that
// are left.
func (q queue[T]) each(ended <-chan struct{}, take func(T)) {
	for {
		select {
		case item := <-q:
			take(item)
		case <-ended:
			for {
				select {
				case item := <-q:
					take(item)
				default:
					return
				}
			}
		}
	}
}
