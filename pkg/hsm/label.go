package hsm

// Labels are bytes (CKA_LABEL should be UTF-8, and is not always). JSON knows text only
// and makes one label of two that are not, so that what is not text travels beside it.

import (
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// ShowLabel is a label for tables and logs: as it is, or as a quoted Go string if there is
// anything in it that does not print or that only looks like an escape.
func ShowLabel(label string) string {
	quoted := strconv.Quote(label)
	if quoted == `"`+label+`"` {
		return label
	}
	return quoted
}

// ShowLabels is ShowLabel of each.
func ShowLabels(labels []string) []string {
	shown := make([]string, len(labels))
	for i, label := range labels {
		shown[i] = ShowLabel(label)
	}
	return shown
}

// EncodeLabel is a label in JSON: text, and the bytes if they are not that text.
func EncodeLabel(label string) (string, []byte) {
	if utf8.ValidString(label) {
		return label, nil
	}
	return ShowLabel(label), []byte(label)
}

// DecodeLabel is the opposite of EncodeLabel.
func DecodeLabel(text string, bytes []byte) string {
	if len(bytes) > 0 {
		return string(bytes)
	}
	return text
}

// StoredObject is an Object in JSON: between a worker and its parent, and in the state
// directory. What earlier versions wrote reads as well.
type StoredObject struct {
	Object
	LabelBytes []byte `json:"labelBytes,omitempty"` // if the label is not UTF-8
}

// StoreObjects prepares objects for JSON, with labels byte for byte.
func StoreObjects(objects []Object) []StoredObject {
	stored := make([]StoredObject, len(objects))
	for i, o := range objects {
		stored[i].Object = o
		stored[i].Label, stored[i].LabelBytes = EncodeLabel(o.Label)
	}
	return stored
}

// RestoreObjects undoes storeObjects.
func RestoreObjects(stored []StoredObject) []Object {
	objects := make([]Object, len(stored))
	for i, s := range stored {
		objects[i] = s.Object
		objects[i].Label = DecodeLabel(s.Label, s.LabelBytes)
	}
	return objects
}

// MarshalObjects writes objects as JSON, their labels byte for byte.
func MarshalObjects(objects []Object) ([]byte, error) {
	return json.Marshal(StoreObjects(objects))
}

// UnmarshalObjects reads what MarshalObjects wrote.
func UnmarshalObjects(data []byte) ([]Object, error) {
	var stored []StoredObject
	err := json.Unmarshal(data, &stored)
	if err != nil {
		return nil, fmt.Errorf("list of objects: %w", err)
	}
	return RestoreObjects(stored), nil
}
