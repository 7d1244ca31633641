# Output seen as it is written, at the price of gathered output. (`$stdout.sync = true` costs seven times as much.)
#
# Each write to stdout is flushed at once. When a flood has used up the credit, stdout gathers as usual for
# 10 ms: a thread that lives only then ends that.

out = $stdout
unless out.tty?
  most, least, earned_in_s, gathered_s = 200, 16, 0.0002, 0.01
  credit, earned_until = most, 0.0
  into_buffer, flush = out.method(:write), out.method(:flush)
  pass_on = nil

  gather = lambda do
    Thread.new do
      sleep gathered_s
      credit = least
      begin
        pass_on.call
        flush.call
      rescue IOError, SystemCallError
        # It is closed, or the next write tells.
      end
      # Ruby looks for a deadlock when a thread begins to wait, not when one ends.
      others = Thread.list - [Thread.current]
      Thread.stop if others.all? { |other| other.inspect.end_with?(" sleep_forever>") }
    end
    out.singleton_class.remove_method(:write)
  rescue NameError, ThreadError
    # The program works on its stdout itself, or may start no thread.
  end

  write = lambda do |*parts|
    size = into_buffer.call(*parts)
    flush.call
    credit -= 1
    if credit < 0
      now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
      credit = [most, ((now - earned_until) / earned_in_s).floor].min
      earned_until = now
      gather.call if credit < 1
    end
    size
  end

  pass_on = -> { out.define_singleton_method(:write, &write) }
  pass_on.call
end
