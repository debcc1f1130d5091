// A gorilla/websocket echo server, like the one in its own examples.
//
// Usage: gorilla PORT [-deflate] [-tls CERT KEY]
package main

import (
	"log"
	"net/http"
	"os"

	"github.com/gorilla/websocket"
)

func echo(upgrader *websocket.Upgrader) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		for {
			opcode, message, err := c.ReadMessage()
			if err != nil {
				return
			}
			if err := c.WriteMessage(opcode, message); err != nil {
				return
			}
		}
	}
}

func main() {
	address := "127.0.0.1:" + os.Args[1]
	upgrader := &websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	var certificate, key string
	for i := 2; i < len(os.Args); i++ {
		switch os.Args[i] {
		case "-deflate":
			upgrader.EnableCompression = true
		case "-tls":
			certificate, key = os.Args[i+1], os.Args[i+2]
			i += 2
		}
	}
	http.HandleFunc("/", echo(upgrader))
	if certificate != "" {
		log.Fatal(http.ListenAndServeTLS(address, certificate, key, nil))
	}
	log.Fatal(http.ListenAndServe(address, nil))
}
