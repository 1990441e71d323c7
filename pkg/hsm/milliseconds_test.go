package hsm

import (
	"encoding/json"
	"testing"
	"time"
)

func TestMilliseconds(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                         "0",
		310 * time.Microsecond:    "0.31",
		2140999 * time.Nanosecond: "2.14",
		3 * time.Hour:             "10800000",
	} {
		text, err := json.Marshal(Milliseconds(d))
		if err != nil || string(text) != want {
			t.Errorf("%v: %s, %v, want %s", d, text, err, want)
		}
		var back Milliseconds
		err = json.Unmarshal(text, &back)
		if err != nil || time.Duration(back) != d.Truncate(time.Microsecond) {
			t.Errorf("%s: %v, %v", text, back, err)
		}
	}
	var m Milliseconds
	err := json.Unmarshal([]byte(`"2ms"`), &m)
	if err == nil {
		t.Error("a text is taken for a number")
	}
}
