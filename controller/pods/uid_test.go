package pods

import (
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

// TestIdentity: the UID of a pod is told as it is, whatever its form.
func TestIdentity(t *testing.T) {
	t.Parallel()
	seen := map[identity]types.UID{}
	for _, uid := range []types.UID{
		"", "u", "0b6e4f0a-5d0f-4a8c-9f57-3f6f0d6f2f11", "0b6e4f0a-5d0f-4a8c-9f57-3f6f0d6f2f12", "0B6E4F0A-5D0F-4A8C-9F57-3F6F0D6F2F11",
		"0b6e4f0a_5d0f_4a8c_9f57_3f6f0d6f2f11", "00000000-0000-0000-0000-000000000000", "7f3d9a2b8c1e4f5a6b7c8d9e0f1a2b3c",
		"0b6e4f0a-5d0f-4a8c-9f57-3f6f0d6f2fé",
	} {
		id := identityOf(uid)
		if got := id.uid(); got != uid {
			t.Errorf("%q became %q", uid, got)
		}
		if other, taken := seen[id]; taken {
			t.Errorf("%q and %q are the same", uid, other)
		}
		seen[id] = uid
	}
}
