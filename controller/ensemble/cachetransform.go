package ensemble

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
)

// StripConfigMap keeps of a ConfigMap in the cache a hash of each of its texts: whoever may create one can give it a megabyte and the
// label by which those of Ensembles are watched.
func StripConfigMap(object any) (any, error) {
	configMap, ok := object.(*corev1.ConfigMap)
	if !ok {
		return object, nil
	}
	configMap.ManagedFields, configMap.Annotations, configMap.BinaryData = nil, nil, nil
	for key, text := range configMap.Data {
		configMap.Data[key] = hashed(text)
	}
	return configMap, nil
}

func hashed(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// sameData reports whether the texts of a ConfigMap, which the cache may have the hashes of, are those that are wanted.
func sameData(there, want map[string]string) bool {
	return maps.EqualFunc(there, want, func(is, wanted string) bool { return is == wanted || is == hashed(wanted) })
}

// dataPatch gives a ConfigMap the texts that are wanted, as it was read.
func dataPatch(there *corev1.ConfigMap, want map[string]string) ([]byte, error) {
	data := map[string]any{}
	for key := range there.Data {
		data[key] = nil
	}
	for key, text := range want {
		data[key] = text
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": there.ResourceVersion}, "data": data})
	if err != nil {
		return nil, fmt.Errorf("encode the patch of the ConfigMap: %w", err)
	}
	return patch, nil
}
