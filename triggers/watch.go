package triggers

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Watcher says how files are watched. The zero value has sensible times.
type Watcher struct {
	Quiet time.Duration // how long nothing must have happened before files are read; default 100 ms
	Wait  time.Duration // the longest that unrest may put it off; default 2 s
	Poll  time.Duration // files are looked at as often in any case, for file systems that send no news; default 30 s
}

func (w Watcher) withDefaults() Watcher {
	if w.Quiet <= 0 {
		w.Quiet = 100 * time.Millisecond
	}
	if w.Wait <= 0 {
		w.Wait = 2 * time.Second
	}
	if w.Poll <= 0 {
		w.Poll = 30 * time.Second
	}
	return w
}

// run calls changed once it watches, and whenever something happened to one of
// the paths and then nothing for a while. Directories are watched, never files:
// editors and ConfigMaps replace a file by renaming another, and a watch on the
// old one would be deaf from then on.
func (w Watcher) run(ctx context.Context, log *slog.Logger, paths []string, changed func()) error {
	w = w.withDefaults()
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("no file watch to be had (is fs.inotify.max_user_instances used up?): %w", err)
	}
	defer watcher.Close()
	poll := time.NewTicker(w.Poll)
	defer poll.Stop()
	quiet := time.NewTimer(w.Quiet)
	quiet.Stop()
	defer quiet.Stop()
	var since time.Time // when the unrest began; zero for none

	w.watch(watcher, log, paths)
	changed()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-watcher.Events:
			if !ok {
				return fmt.Errorf("the file watch ended")
			}
			now := time.Now()
			if since.IsZero() {
				since = now
			}
			quiet.Reset(max(0, min(w.Quiet, w.Wait-now.Sub(since))))
		case err, ok := <-watcher.Errors:
			if !ok {
				return fmt.Errorf("the file watch ended")
			}
			// Most likely too many events at once: some are lost, so look.
			log.Warn("file watch has an error, files are read again", "err", err)
			quiet.Reset(w.Quiet)
		case <-quiet.C:
			since = time.Time{}
			w.watch(watcher, log, paths) // a link may lead elsewhere, a directory may be a new one
			changed()
		case <-poll.C:
			w.watch(watcher, log, paths)
			changed()
		}
	}
}

// watch adds the directories that matter now, and drops the others.
func (w Watcher) watch(watcher *fsnotify.Watcher, log *slog.Logger, paths []string) {
	wanted := map[string]bool{}
	for _, path := range paths {
		for _, dir := range directories(path) {
			wanted[dir] = true
		}
	}
	for _, dir := range watcher.WatchList() {
		if !wanted[dir] {
			_ = watcher.Remove(dir) // it may be gone already, and its watch with it
		}
	}
	for dir := range wanted {
		// Adding again is how a directory that replaced another of its name is noticed.
		if err := watcher.Add(dir); err != nil {
			log.Warn("directory cannot be watched, it is looked at from time to time", "dir", dir, "every", w.Poll, "err", err)
		}
	}
}

// directories lists those where a change to what path holds is seen: the one
// that it stands in, itself, and the ones where links lead. One that does not
// exist is represented by the nearest that does.
func directories(path string) []string {
	var dirs []string
	add := func(dir string) {
		dir, err := filepath.Abs(dir)
		if err != nil {
			return
		}
		dirs = append(dirs, existing(dir))
		// A directory on the way may itself be a link, changed by its parent.
		for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			if info, err := os.Lstat(dir); err == nil && info.Mode()&os.ModeSymlink != 0 {
				dirs = append(dirs, filepath.Dir(dir))
			}
		}
	}
	// follow adds where a path stands, and where each link on its way leads.
	follow := func(path string) {
		for range 16 { // links to links; a circle is no endless one
			add(filepath.Dir(path))
			to, err := os.Readlink(path)
			if err != nil {
				return
			}
			if !filepath.IsAbs(to) {
				to = filepath.Join(filepath.Dir(path), to)
			}
			path = to
		}
	}
	follow(path)
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return dirs
	}
	add(path)
	if entries, err := os.ReadDir(path); err == nil {
		for _, e := range entries {
			if e.Type()&os.ModeSymlink != 0 {
				follow(filepath.Join(path, e.Name()))
			}
		}
	}
	return dirs
}

// existing returns the directory or its nearest parent that exists.
func existing(dir string) string {
	for {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return dir
		}
		dir = parent
	}
}
