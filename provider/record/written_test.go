package record

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func atVersion(name, version string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: version}}
}

// TestWritten: an object from the cache is behind until it is as new as what was written.
func TestWritten(t *testing.T) {
	t.Parallel()
	var w Written
	behind := func(version string, want bool) {
		t.Helper()
		if got := w.Behind(atVersion("n", version)); got != want {
			t.Errorf("version %s is behind: %v, want %v", version, got, want)
		}
	}
	behind("1", false)
	w.Wrote(atVersion("n", "10"))
	behind("9", true)
	behind("9", true)
	if w.Behind(atVersion("other", "1")) {
		t.Error("another object is behind")
	}
	behind("10", false)
	// It was seen, and forgotten.
	behind("9", false)
	w.Wrote(atVersion("n", "11"))
	behind("12", false)
	w.Wrote(atVersion("n", "13"))
	w.Forget(client.ObjectKey{Name: "n"})
	behind("1", false)
}

// TestWrittenForgets: what nobody asks for again is not kept for ever, and what is new is.
func TestWrittenForgets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w Written
		for i := range maxWritten {
			w.Wrote(atVersion(fmt.Sprint("old-", i), "10"))
		}
		<-time.After(writtenFor + time.Second)
		w.Wrote(atVersion("new", "10"))
		if len(w.versions) != 1 || !w.Behind(atVersion("new", "9")) {
			t.Errorf("%d writes are kept", len(w.versions))
		}
	})
}

// TestAsked: what was asked a moment ago is not asked again, and later it is.
func TestAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var a Asked
		if a.Lately("k") {
			t.Error("nothing was asked")
		}
		a.Note("k")
		if !a.Lately("k") || a.Lately("other") {
			t.Error("k was asked, and nothing else")
		}
		<-time.After(askedFor)
		if !a.Lately("k") {
			t.Error("it counts for as long as it may")
		}
		<-time.After(time.Second)
		if a.Lately("k") {
			t.Error("it was asked long ago")
		}
		for i := range maxWritten {
			a.Note(fmt.Sprint(i))
		}
		<-time.After(askedFor + time.Second)
		a.Note("k")
		if len(a.at) != 1 || !a.Lately("k") {
			t.Errorf("%d questions are kept", len(a.at))
		}
	})
}
