package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/evento-oss/evento/runtime"
)

const (
	// historyAhead is how many entries are kept in memory when they are read on
	// the way back. Short histories need no second reading; of long ones only
	// each 64th record is read on the way.
	historyAhead = 1024

	// historyGap is how many offsets are read over, where links do not agree,
	// before all of the partition is.
	historyGap = 8192
)

// errLink says that a link leads nowhere, so that records must be searched.
var errLink = errors.New("a link leads to no record of the aggregate")

// walk is one reading of a history.
type walk struct {
	h     *History
	chain Chain
	after Mark
	do    func(Entry) error // nil: only find out the version of the head

	// On the way back:
	loaded map[int64]Entry // read, by offset
	back   []int64         // offsets so far, newest first
	known  []int64         // offsets of those before them, newest first, where links told
	before uint64          // the version before the oldest event; 0 when not known

	// On the way forth:
	last  Entry // the last entry that was taken
	begun bool  // whether there is one
}

func (w *walk) run(ctx context.Context) error {
	offsets, err := w.index(ctx)
	if errors.Is(err, errLink) {
		return w.search(ctx, err)
	}
	if err != nil {
		return err
	}
	for batch := range slices.Chunk(offsets, MaxSkip) {
		if err := w.load(ctx, batch); err != nil {
			return err
		}
		for _, offset := range batch {
			e, ok := w.loaded[offset]
			delete(w.loaded, offset)
			if !ok {
				continue // the next one is not linked to the last one then
			}
			err := w.link(ctx, e)
			if errors.Is(err, errLink) {
				return w.search(ctx, err)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// index finds the offsets of all records from the mark to the head, ascending,
// as the links tell them. Only those that were needed to get on have been read,
// and are right.
func (w *walk) index(ctx context.Context) ([]int64, error) {
	w.back = []int64{w.chain.Head}
	w.before = w.chain.Version
	for _, offset := range slices.Backward(w.chain.Links) {
		w.known = append(w.known, offset) // a wrong one is found out like a wrong link
	}
	w.follow()
	if err := w.load(ctx, w.back); err != nil {
		return nil, err
	}
	if head, ok := w.loaded[w.chain.Head]; !ok || w.chain.HeadID != "" && head.ID != w.chain.HeadID {
		return nil, fmt.Errorf("%w: the head %s is not at offset %d", errLink, w.chain.HeadID, w.chain.Head)
	}
	for {
		oldest, ok := w.oldest()
		if !ok {
			if err := w.repair(ctx); err != nil {
				return nil, err
			}
			oldest, _ = w.oldest()
		}
		if !oldest.Platform() {
			w.before = oldest.Version - 1
			if oldest.Version <= w.after.Version {
				break
			}
		}
		if oldest.Prev == runtime.NoPrev {
			break
		}
		if len(w.known) == 0 {
			for _, link := range slices.Backward(oldest.Skip) {
				w.known = append(w.known, resolve(link, oldest.At.Offset))
			}
		}
		if len(w.known) == 0 {
			w.known = append(w.known, resolve(oldest.Prev, oldest.At.Offset))
		}
		if !w.follow() {
			return nil, fmt.Errorf("%w: the links at offset %d do not lead back", errLink, oldest.At.Offset)
		}
		// The oldest is needed to get on. The others will be needed too: they
		// are read with it as long as there is room for them.
		need := w.back
		if len(need) > w.h.ahead {
			need = need[len(need)-1:]
		}
		if err := w.load(ctx, need); err != nil {
			return nil, err
		}
	}
	slices.Reverse(w.back)
	return w.back, nil
}

func (w *walk) oldest() (Entry, bool) {
	e, ok := w.loaded[w.back[len(w.back)-1]]
	return e, ok
}

// follow takes as many of the known offsets as are needed to reach the mark if
// none of them is a platform record's. It is false when none leads back.
func (w *walk) follow() bool {
	need := uint64(len(w.known))
	if w.before > 0 {
		need = 1 // the event of the mark's version
		if w.before > w.after.Version {
			need += w.before - w.after.Version
		}
	}
	taken := false
	for need > 0 && len(w.known) > 0 {
		offset := w.known[0]
		w.known = w.known[1:]
		if offset >= 0 && offset < w.back[len(w.back)-1] {
			w.back, taken = append(w.back, offset), true
			need--
		}
	}
	return taken
}

// resolve makes an offset of a link, which may be a distance.
func resolve(link, offset int64) int64 {
	if link < 0 {
		return offset + link
	}
	return link
}

// repair is for an oldest offset that holds none of the aggregate's records. It
// goes back to the last good one and on from there by its own link. Distances of
// records of one transaction are off by the markers and aborted records between
// them, so what stands before a good record is searched near it.
func (w *walk) repair(ctx context.Context) error {
	w.known = nil
	unread := len(w.back)
	for unread > 0 {
		if _, ok := w.loaded[w.back[unread-1]]; ok {
			break
		}
		unread--
	}
	if tail := w.back[unread:]; len(tail) > 1 { // of a list only the oldest was read, perhaps
		if err := w.load(ctx, tail); err != nil {
			return err
		}
	}
	bad := w.back[len(w.back)-1]
	for _, ok := w.oldest(); !ok; _, ok = w.oldest() {
		w.back = w.back[:len(w.back)-1] // the head is good, so one is left
	}
	good, _ := w.oldest()
	if good.Prev == runtime.NoPrev {
		return nil
	}
	before := resolve(good.Prev, good.At.Offset)
	if good.Prev >= 0 {
		if before == bad || before >= good.At.Offset {
			return fmt.Errorf("%w: %d at offset %d", errLink, good.Prev, good.At.Offset)
		}
		if err := w.load(ctx, []int64{before}); err != nil {
			return err
		}
		if _, ok := w.loaded[before]; !ok {
			return fmt.Errorf("%w: %d at offset %d", errLink, good.Prev, good.At.Offset)
		}
		w.back = append(w.back, before)
		return nil
	}
	from := max(before-findAround, 0)
	if good.At.Offset-from > historyGap {
		return fmt.Errorf("%w: %d at offset %d", errLink, good.Prev, good.At.Offset)
	}
	between, err := w.between(ctx, from, good.At.Offset)
	if err != nil {
		return err
	}
	if len(between) == 0 {
		return fmt.Errorf("%w: %d at offset %d", errLink, good.Prev, good.At.Offset)
	}
	for _, e := range slices.Backward(between) {
		w.loaded[e.At.Offset] = e
		w.back = append(w.back, e.At.Offset)
	}
	return nil
}

// between reads all of the aggregate's records from one offset to before another.
func (w *walk) between(ctx context.Context, from, to int64) (found []Entry, err error) {
	err = w.h.reader.Scan(ctx, w.chain.Topic, w.chain.Partition, from, to, ReadCommitted, func(r Record) error {
		e, ok, err := w.chain.entry(r)
		if ok {
			found = append(found, e)
		}
		return err
	})
	if errors.Is(err, ErrTruncated) {
		return nil, fmt.Errorf("%w: %w", errLink, err)
	}
	return found, err
}

// load reads those of the offsets that are not read yet. What is there and is
// not the aggregate's is not kept.
func (w *walk) load(ctx context.Context, offsets []int64) error {
	var need []int64
	for _, offset := range offsets {
		if _, ok := w.loaded[offset]; !ok {
			need = append(need, offset)
		}
	}
	for batch := range slices.Chunk(need, 4*MaxSkip) {
		records, err := w.h.reader.Points(ctx, w.chain.Topic, w.chain.Partition, batch)
		if err != nil {
			return err
		}
		for _, r := range records {
			e, ok, err := w.chain.entry(r)
			if err != nil {
				return err
			}
			if ok {
				w.loaded[r.Offset] = e
			}
		}
	}
	return nil
}

// link takes an entry that was read at an offset. Where its own link does not
// lead to the one before, it reads what stands between them: a distance may be
// off, and the caller's links may leave records out. An offset is never off
// where it was written: if it leads elsewhere, this log is a copy, and no link
// in it can be believed.
func (w *walk) link(ctx context.Context, e Entry) error {
	if !w.begun || resolve(e.Prev, e.At.Offset) == w.last.At.Offset && follows(e, w.last) {
		return w.take(e)
	}
	if e.Prev >= 0 {
		if err := w.load(ctx, []int64{e.Prev}); err != nil {
			return err
		}
		if before, ok := w.loaded[e.Prev]; !ok || e.Prev <= w.last.At.Offset || !follows(e, before) {
			return fmt.Errorf("%w: %d at offset %d", errLink, e.Prev, e.At.Offset)
		}
	}
	from := w.last.At.Offset + 1
	if e.At.Offset-from > historyGap {
		return fmt.Errorf("%w: offset %d is not linked to %d, and too far to be near", errLink, e.At.Offset, w.last.At.Offset)
	}
	if from < e.At.Offset {
		between, err := w.between(ctx, from, e.At.Offset)
		if err != nil {
			return err
		}
		for _, e := range between {
			if err := w.take(e); err != nil {
				return err
			}
		}
	}
	return w.take(e)
}

// follows says whether an entry can stand right after another by its version.
func follows(e, before Entry) bool {
	return e.Platform() || before.Platform() || e.Version == before.Version+1
}

// take checks that the version follows, and hands the entry on.
func (w *walk) take(e Entry) error {
	switch {
	case e.Platform():
		e.Version = w.last.Version
	case w.begun && e.Version != w.last.Version+1, !w.begun && e.Version > w.after.Version+1:
		return fmt.Errorf("%w: version %d at offset %d follows version %d at offset %d", ErrHistory, e.Version, e.At.Offset, w.last.Version, w.last.At.Offset)
	}
	w.last, w.begun = e, true
	if w.do == nil || w.after.passed(e) {
		return nil
	}
	return w.do(e)
}

// search reads the partition from the last entry that was taken to the head.
func (w *walk) search(ctx context.Context, why error) error {
	began, seen := time.Now(), 0
	from := w.last.At.Offset + 1
	if !w.begun {
		low, _, _, err := w.h.reader.Watermarks(ctx, w.chain.Topic, w.chain.Partition)
		if err != nil {
			return err
		}
		from = low
	}
	clear(w.loaded)
	err := w.h.reader.Scan(ctx, w.chain.Topic, w.chain.Partition, from, w.chain.Head+1, ReadCommitted, func(r Record) error {
		seen++
		e, ok, err := w.chain.entry(r)
		if err != nil || !ok {
			return err
		}
		if w.begun && (e.ID == w.last.ID || !e.Platform() && e.Version <= w.last.Version) {
			return nil // mirroring repeats records
		}
		return w.take(e)
	})
	w.h.log.Warn("links of an aggregate's records lead nowhere (was the topic restored or mirrored?): its partition was read",
		"entity", w.chain.Aggregate, "topic", w.chain.Topic, "partition", w.chain.Partition, "offset", from,
		"records", seen, "seconds", time.Since(began).Seconds(), "cause", why, "err", err)
	if err == nil && w.last.ID != w.chain.HeadID && w.chain.HeadID != "" {
		err = fmt.Errorf("%w: the head %s at offset %d is not there", ErrHistory, w.chain.HeadID, w.chain.Head)
	}
	return err
}
