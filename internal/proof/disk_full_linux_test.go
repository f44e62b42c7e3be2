package proof

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestBrokerDiskFull fills the disk of the only broker under load, and frees it
// later. Apache Kafka ends itself when its last disk fails, so the platform does
// what a platform does: it starts it again, and again, until there is space. Until
// then senders are told, and nobody is told that something was accepted that was not.
func TestBrokerDiskFull(t *testing.T) {
	disk := smallDisk(t, 192<<20)
	b := startBrokersIn(t, disk, 1)
	w := newWorld(t, setup{gateways: 2, kafka: b.kafka})
	l := newLoad(w)
	const n = 900
	l.upTo(0.5, n)
	end := l.begin(t, n)
	l.reached(t, 0.2)

	began := time.Now()
	filler := fillDisk(t, disk)
	l.upTo(1, n)
	wait(t, func() error { // what is preallocated is used up first
		select {
		case <-b.list[0].exited:
			return nil
		default:
			return errors.New("the broker still runs")
		}
	})
	t.Logf("the broker ended %v after its disk was full", ago(began))
	w.awaitAway(t, l.history, began)
	b.start(t, 0) // there is no space yet
	wait(t, func() error {
		if len(b.list[0].said(0, "Kafka Server started")) > 0 {
			return fatal(errors.New("the broker takes itself for started, on a full disk"))
		}
		select {
		case <-b.list[0].exited:
			return nil
		default:
			return errors.New("the broker does not end on a full disk")
		}
	})

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	b.start(t, 0)
	b.awaitReady(t, 0)
	w.awaitBack(t)
	end()
	w.awaitAllOwned(t)
	w.judge(t, l.history)
	l.history.checkRefusals(t)
}

// smallDisk is a folder on a file system of its own, of this many bytes. The test is
// skipped where none can be mounted.
func smallDisk(t testing.TB, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("needs a small file system of its own, and may not mount one here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// fillDisk leaves no byte free, and returns the file to remove.
func fillDisk(t testing.TB, dir string) string {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 1 << 10, 1} {
		for err == nil {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, io.ErrShortWrite) {
			t.Fatal(err)
		}
		err = nil
	}
	return f.Name()
}
