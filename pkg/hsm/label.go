package hsm

// Labels are bytes: CKA_LABEL should be UTF-8 and is not always. JSON would turn different invalid
// labels into the same text, so the bytes of such a label are stored beside its text.

import (
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// ShowLabel returns a label for tables and logs: unchanged, or as a quoted Go string if it contains
// characters that do not print or look like an escape.
func ShowLabel(label string) string {
	quoted := strconv.Quote(label)
	if quoted == `"`+label+`"` {
		return label
	}
	return quoted
}

// ShowLabels applies ShowLabel to each label.
func ShowLabels(labels []string) []string {
	shown := make([]string, len(labels))
	for i, label := range labels {
		shown[i] = ShowLabel(label)
	}
	return shown
}

// EncodeLabel returns a label as text for JSON, and its bytes if the text does not contain them.
func EncodeLabel(label string) (string, []byte) {
	if utf8.ValidString(label) {
		return label, nil
	}
	return ShowLabel(label), []byte(label)
}

// DecodeLabel is the inverse of EncodeLabel.
func DecodeLabel(text string, bytes []byte) string {
	if len(bytes) > 0 {
		return string(bytes)
	}
	return text
}

// StoredObject is the JSON of an Object, used between a worker and its parent and in the state
// directory. It also reads the JSON of earlier versions.
type StoredObject struct {
	Object
	LabelBytes []byte `json:"labelBytes,omitempty"` // if the label is not UTF-8
}

// StoreObjects converts objects for JSON, labels byte for byte.
func StoreObjects(objects []Object) []StoredObject {
	stored := make([]StoredObject, len(objects))
	for i, o := range objects {
		stored[i].Object = o
		stored[i].Label, stored[i].LabelBytes = EncodeLabel(o.Label)
	}
	return stored
}

// RestoreObjects is the inverse of StoreObjects.
func RestoreObjects(stored []StoredObject) []Object {
	objects := make([]Object, len(stored))
	for i, s := range stored {
		objects[i] = s.Object
		objects[i].Label = DecodeLabel(s.Label, s.LabelBytes)
	}
	return objects
}

// MarshalObjects returns objects as JSON, labels byte for byte.
func MarshalObjects(objects []Object) ([]byte, error) {
	return json.Marshal(StoreObjects(objects))
}

// UnmarshalObjects is the inverse of MarshalObjects.
func UnmarshalObjects(data []byte) ([]Object, error) {
	var stored []StoredObject
	err := json.Unmarshal(data, &stored)
	if err != nil {
		return nil, fmt.Errorf("list of objects: %w", err)
	}
	return RestoreObjects(stored), nil
}
