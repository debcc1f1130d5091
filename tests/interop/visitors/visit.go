// Does for clients in Go what visit.py does for those in Python: `visit gorilla VERSION` or `visit nhooyr VERSION`.
// Must never know what is expected of a client.

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	nhooyr "nhooyr.io/websocket"
)

const (
	atOnce  = 25
	settled = 1.0
	shown   = 24
)

var texts = []string{"one", "two", "three"}

// A seen is what to visit, and what came of it: the class Visit of visit.py.
type seen struct {
	Number   int      `json:"number"`
	URL      string   `json:"url"`
	Deflate  bool     `json:"deflate"`
	Quiet    float64  `json:"quiet"`
	Opened   bool     `json:"opened"`
	Messages []string `json:"messages"`
	Waited   bool     `json:"waited"`
	Error    string   `json:"error"`
	Code     *int     `json:"code"`
}

func seconds(number float64) time.Duration {
	return time.Duration(number * float64(time.Second))
}

func (one *seen) patience() time.Duration {
	for _, text := range one.Messages {
		if text == texts[len(texts)-1] && one.Quiet > settled {
			return seconds(settled)
		}
	}
	return seconds(one.Quiet)
}

func (one *seen) take(message []byte) {
	letters := []rune(strings.ToValidUTF8(string(message), "\uFFFD"))
	if len(letters) > shown {
		letters = append(letters[:shown], '…')
	}
	one.Messages = append(one.Messages, string(letters))
}

func (one *seen) fail(err error) {
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		one.Waited = true
		return
	}
	one.Error = strings.ToValidUTF8(err.Error(), "\uFFFD")
	if len(one.Error) > 200 {
		one.Error = one.Error[:200]
	}
}

func (one *seen) ends(code int) {
	one.Code = &code
}

func visitGorilla(one *seen) {
	dialer := websocket.Dialer{HandshakeTimeout: seconds(one.Quiet), EnableCompression: one.Deflate}
	client, _, err := dialer.Dial(one.URL, nil)
	if err != nil {
		one.fail(err)
		return
	}
	defer client.Close()
	one.Opened = true
	for _, text := range texts {
		if err := client.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
			one.fail(err)
			return
		}
	}
	for {
		client.SetReadDeadline(time.Now().Add(one.patience()))
		_, message, err := client.ReadMessage()
		if closed, is := err.(*websocket.CloseError); is {
			one.ends(closed.Code)
			if closed.Code != websocket.CloseNormalClosure {
				one.fail(err)
			}
			return
		}
		if err != nil {
			one.fail(err)
			break
		}
		one.take(message)
	}
	if one.Waited {
		ending := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		client.WriteControl(websocket.CloseMessage, ending, time.Now().Add(seconds(one.Quiet/2)))
	}
}

func visitNhooyr(one *seen) {
	options := nhooyr.DialOptions{CompressionMode: nhooyr.CompressionDisabled}
	if one.Deflate {
		options.CompressionMode = nhooyr.CompressionContextTakeover
	}
	opening, stop := context.WithTimeout(context.Background(), seconds(one.Quiet))
	defer stop()
	client, _, err := nhooyr.Dial(opening, one.URL, &options)
	if err != nil {
		one.fail(err)
		return
	}
	one.Opened = true
	// A read whose time is up ends the connection, so a reader of its own waits for messages.
	type got struct {
		message []byte
		err     error
	}
	came := make(chan got)
	go func() {
		for {
			_, message, err := client.Read(context.Background())
			came <- got{message, err}
			if err != nil {
				return
			}
		}
	}()
	for _, text := range texts {
		if err := client.Write(opening, nhooyr.MessageText, []byte(text)); err != nil {
			break // the reader tells why
		}
	}
	for {
		select {
		case next := <-came:
			if next.err == nil {
				one.take(next.message)
				continue
			}
			if code := nhooyr.CloseStatus(next.err); code != -1 {
				one.ends(int(code))
				if code == nhooyr.StatusNormalClosure {
					return
				}
			}
			one.fail(next.err)
			return
		case <-time.After(one.patience()):
			one.Waited = true
			go func() { <-came }()
			client.Close(nhooyr.StatusNormalClosure, "")
			return
		}
	}
}

func main() {
	visit := map[string]func(*seen){"gorilla": visitGorilla, "nhooyr": visitNhooyr}[os.Args[1]]
	fmt.Println(os.Args[1], os.Args[2])
	var all sync.WaitGroup
	var telling sync.Mutex
	gate := make(chan bool, atOnce)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		one := &seen{Messages: []string{}}
		if err := json.Unmarshal(lines.Bytes(), one); err != nil {
			panic(err)
		}
		all.Add(1)
		go func() {
			defer all.Done()
			gate <- true
			visit(one)
			<-gate
			told, _ := json.Marshal(one)
			telling.Lock()
			fmt.Println(string(told))
			telling.Unlock()
		}()
	}
	all.Wait()
}
