// What boost.rs calls. 1: done, 0: full or empty, -1: an error. All messages of a queue have the same length.

#include <boost/interprocess/ipc/message_queue.hpp>
#include <cstddef>

namespace ipc = boost::interprocess;

template <typename F> static int guarded(F f) {
    try {
        return f() ? 1 : 0;
    } catch (...) {
        return -1;
    }
}

extern "C" int compare_boost_create(const char *name, std::size_t messages, std::size_t bytes) {
    return guarded([=] {
        ipc::message_queue(ipc::create_only, name, messages, bytes);
        return true;
    });
}

extern "C" void *compare_boost_open(const char *name) {
    try {
        return new ipc::message_queue(ipc::open_only, name);
    } catch (...) {
        return nullptr;
    }
}

extern "C" void compare_boost_remove(const char *name) { ipc::message_queue::remove(name); }

extern "C" int compare_boost_try_send(void *queue, const unsigned char *bytes, std::size_t len) {
    return guarded([=] { return static_cast<ipc::message_queue *>(queue)->try_send(bytes, len, 0); });
}

extern "C" int compare_boost_try_receive(void *queue, unsigned char *bytes, std::size_t len) {
    return guarded([=] {
        ipc::message_queue::size_type found = 0;
        unsigned int priority = 0;
        if (!static_cast<ipc::message_queue *>(queue)->try_receive(bytes, len, found, priority)) {
            return false;
        }
        if (found != len) {
            throw 0;
        }
        return true;
    });
}
