// net/http with a scanner of lines, and github.com/donovanhide/eventsource. As most such loops do, the first
// remembers the id of an event that it handed over, and nothing else.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/donovanhide/eventsource"
)

var out = json.NewEncoder(os.Stdout)

func say(fields map[string]interface{}) {
	if err := out.Encode(fields); err != nil {
		os.Exit(1)
	}
}

func event(kind, id, data string) {
	if kind == "" {
		kind = "message"
	}
	say(map[string]interface{}{"event": kind, "id": id, "data": data})
}

type refused int

func (status refused) Error() string { return fmt.Sprintf("status %d", int(status)) }

func read(url string, last *string, retry *time.Duration) error {
	request, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "text/event-stream")
	if *last != "" {
		request.Header.Set("Last-Event-ID", *last)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != 200 {
		return refused(response.StatusCode)
	}
	say(map[string]interface{}{"open": true})
	var kind, id string
	var data []string
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<21) // a line may be longer than the 64 KiB that it takes otherwise
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			if data != nil {
				if id != "" {
					*last = id
				}
				event(kind, id, strings.Join(data, "\n"))
			}
			kind, id, data = "", "", nil
			continue
		}
		parts := strings.SplitN(line, ":", 2)
		value := ""
		if len(parts) == 2 {
			value = strings.TrimPrefix(parts[1], " ")
		}
		switch parts[0] {
		case "data":
			data = append(data, value)
		case "event":
			kind = value
		case "id":
			id = value
		case "retry":
			if ms, err := strconv.Atoi(value); err == nil {
				*retry = time.Duration(ms) * time.Millisecond
			}
		}
	}
	return lines.Err()
}

func loop(url string) {
	last, retry := "", time.Second
	for {
		err := read(url, &last, &retry)
		var status refused
		if errors.As(err, &status) {
			say(map[string]interface{}{"end": err.Error()})
			return
		}
		if err != nil {
			say(map[string]interface{}{"error": err.Error()})
		}
		time.Sleep(retry)
	}
}

func donovanhide(url string) {
	stream, err := eventsource.Subscribe(url, "")
	if err != nil {
		say(map[string]interface{}{"end": err.Error()})
		return
	}
	say(map[string]interface{}{"open": true})
	for {
		select {
		case e := <-stream.Events:
			event(e.Event(), e.Id(), e.Data())
		case err := <-stream.Errors:
			say(map[string]interface{}{"error": err.Error()})
		}
	}
}

func main() {
	if os.Args[1] == "donovanhide/eventsource" {
		donovanhide(os.Args[2])
	} else {
		loop(os.Args[2])
	}
}
