package dev

import (
	"context"
	"fmt"
	"time"

	"github.com/fsnotify/fsnotify"
)

// watch calls look once it watches, so that nothing between the start and the
// watch is missed; then when something has happened in one of the folders that dirs
// names, and then nothing for a while; and from time to time in any case, for
// what a file system sends no news of. Folders are watched, never files: editors
// replace a file by renaming another. It returns when ctx ends.
func watch(ctx context.Context, t Timing, dirs func() []string, look func(), say *printer) {
	poll := t.Poll
	var events chan fsnotify.Event // stays nil where there is no watch to be had
	var errs chan error
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		defer watcher.Close()
		events, errs = watcher.Events, watcher.Errors
		err = watchDirs(watcher, dirs())
	}
	if err != nil {
		poll = min(poll, 2*time.Second)
		say.line("files cannot be watched (%v): they are looked at every %s", err, poll)
	}
	look()
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	quiet := time.NewTimer(t.Quiet)
	quiet.Stop()
	defer quiet.Stop()
	var since time.Time // when the unrest began; zero for none
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			if since.IsZero() {
				since = time.Now()
			}
			// Unrest that never ends does not put it off for ever.
			quiet.Reset(max(0, min(t.Quiet, 20*t.Quiet-time.Since(since))))
			continue
		case _, ok := <-errs: // most likely too many events at once: some are lost, so look
			if !ok {
				errs = nil
				continue
			}
		case <-quiet.C:
		case <-ticker.C:
		}
		since = time.Time{}
		look()
		if watcher != nil {
			_ = watchDirs(watcher, dirs()) // a failure was said; the ticker looks
		}
	}
}

// watchDirs watches these folders and no others. Adding one again is how a
// folder that replaced another of its name is noticed.
func watchDirs(w *fsnotify.Watcher, dirs []string) error {
	wanted := make(map[string]bool)
	var failed error
	for _, dir := range dirs {
		if wanted[dir] {
			continue
		}
		wanted[dir] = true
		if err := w.Add(dir); err != nil && failed == nil {
			failed = fmt.Errorf("%s: %w", dir, err)
		}
	}
	for _, dir := range w.WatchList() {
		if !wanted[dir] {
			_ = w.Remove(dir) // it may be gone already, and its watch with it
		}
	}
	return failed
}
