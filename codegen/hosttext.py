"""LLVM IR of what every reader of lines is made of: the loop over the ring, and the writers of numbers and strings.

Writers get where to write and return where they stopped; they may write up to 32 bytes more than that. The data they
are given starts with `TABLES`.
"""

from __future__ import annotations

PAIRS = "".join(f"{n:02d}" for n in range(100)).encode()
LOWER_AT, UPPER_AT = len(PAIRS), len(PAIRS) + 16
TABLES = PAIRS + b"0123456789abcdef0123456789ABCDEF"

# The argument is a `Reading` of runtime/nativering.py: consumer's and producer's position, data and mask of the ring;
# buffer, its end, constants, working memory; then what comes back: end of the text, number of records.
# Header of a record: u32 length with the flags busy (bit 31) and discarded (bit 30), u32 page offset; see
# runtime/ring.py.
# The room of records is given back every 32 kB: programs look at that position whenever they send.
LOOP = """
define i64 @read(ptr %state) #0 {{
entry:
  %consumer = load ptr, ptr %state
  %producer.at = getelementptr i64, ptr %state, i64 1
  %producer = load ptr, ptr %producer.at
  %ring.at = getelementptr i64, ptr %state, i64 2
  %ring = load ptr, ptr %ring.at
  %mask.at = getelementptr i64, ptr %state, i64 3
  %mask = load i64, ptr %mask.at
  %buffer.at = getelementptr i64, ptr %state, i64 4
  %buffer = load ptr, ptr %buffer.at
  %end.at = getelementptr i64, ptr %state, i64 5
  %end = load i64, ptr %end.at
  %data.at = getelementptr i64, ptr %state, i64 6
  %data = load ptr, ptr %data.at
  %scratch.at = getelementptr i64, ptr %state, i64 7
  %scratch = load ptr, ptr %scratch.at
  %first = load i64, ptr %consumer
  %filled = load atomic i64, ptr %producer acquire, align 8
  br label %head

head:
  %position = phi i64 [ %first, %entry ], [ %position, %look ], [ %next, %publish ], [ %next, %advance ]
  %published = phi i64 [ %first, %entry ], [ %published, %look ], [ %next, %publish ], [ %published, %advance ]
  %limit = phi i64 [ %filled, %entry ], [ %again, %look ], [ %limit, %publish ], [ %limit, %advance ]
  %out = phi ptr [ %buffer, %entry ], [ %out, %look ], [ %moved, %publish ], [ %moved, %advance ]
  %count = phi i64 [ 0, %entry ], [ %count, %look ], [ %counted, %publish ], [ %counted, %advance ]
  %some = icmp ult i64 %position, %limit
  br i1 %some, label %take, label %look

look:
  %again = load atomic i64, ptr %producer acquire, align 8
  %more = icmp ult i64 %position, %again
  br i1 %more, label %head, label %done

take:
  %offset = and i64 %position, %mask
  %header = getelementptr i8, ptr %ring, i64 %offset
  %word = load atomic i32, ptr %header acquire, align 8
  %busy = icmp slt i32 %word, 0
  br i1 %busy, label %done, label %ready

ready:
  %length32 = and i32 %word, 1073741823
  %length = zext i32 %length32 to i64
  %behind = add i64 %length, 15
  %step = and i64 %behind, -8
  %next = add i64 %position, %step
  %flag = and i32 %word, 1073741824
  %discarded = icmp ne i32 %flag, 0
  br i1 %discarded, label %advance, label %whole

whole:
  %last = add i64 %offset, %length
  %last8 = add i64 %last, 7
  %inside = icmp ule i64 %last8, %mask
  br i1 %inside, label %dispatch, label %other

dispatch:
  %record = getelementptr i8, ptr %header, i64 8
  %number = load i64, ptr %record, align 8
  %at = ptrtoint ptr %out to i64
  %left = sub i64 %end, %at
  switch i64 %number, label %other [
{cases}
  ]
{blocks}

written:
  %new = phi ptr {results}
  br label %advance

advance:
  %moved = phi ptr [ %new, %written ], [ %out, %ready ]
  %one = phi i64 [ 1, %written ], [ 0, %ready ]
  %counted = add i64 %count, %one
  %unpublished = sub i64 %next, %published
  %due = icmp ugt i64 %unpublished, 32768
  br i1 %due, label %publish, label %head

publish:
  store atomic i64 %next, ptr %consumer release, align 8
  br label %head

full:
  br label %done

other:
  br label %done

done:
  %reason = phi i64 [ 0, %look ], [ 0, %take ], [ 1, %full ], [ 2, %other ]
  store atomic i64 %position, ptr %consumer release, align 8
  %stop.at = getelementptr i64, ptr %state, i64 8
  store ptr %out, ptr %stop.at
  %count.at = getelementptr i64, ptr %state, i64 9
  store i64 %count, ptr %count.at
  ret i64 %reason
}}
"""

HELPERS = """
define internal ptr @copied(ptr %out, ptr %start, ptr %end) #0 {
  %a = load i64, ptr %start, align 1
  store i64 %a, ptr %out, align 1
  %s8 = getelementptr i8, ptr %start, i64 8
  %o8 = getelementptr i8, ptr %out, i64 8
  %b = load i64, ptr %s8, align 1
  store i64 %b, ptr %o8, align 1
  %s16 = getelementptr i8, ptr %start, i64 16
  %o16 = getelementptr i8, ptr %out, i64 16
  %c = load i64, ptr %s16, align 1
  store i64 %c, ptr %o16, align 1
  %from = ptrtoint ptr %start to i64
  %to = ptrtoint ptr %end to i64
  %length = sub i64 %to, %from
  %behind = getelementptr i8, ptr %out, i64 %length
  ret ptr %behind
}

define internal ptr @decimal(ptr %out, i64 %value, ptr %data) #0 {
entry:
  %buffer = alloca [56 x i8], align 8
  %end = getelementptr i8, ptr %buffer, i64 24
  br label %head
head:
  %v = phi i64 [ %value, %entry ], [ %quotient, %pair ]
  %p = phi ptr [ %end, %entry ], [ %before, %pair ]
  %big = icmp uge i64 %v, 10
  br i1 %big, label %pair, label %single
pair:
  %quotient = udiv i64 %v, 100
  %product = mul i64 %quotient, 100
  %rest = sub i64 %v, %product
  %rest2 = shl i64 %rest, 1
  %from = getelementptr i8, ptr %data, i64 %rest2
  %digits = load i16, ptr %from, align 1
  %before = getelementptr i8, ptr %p, i64 -2
  store i16 %digits, ptr %before, align 1
  %finished = icmp eq i64 %quotient, 0
  br i1 %finished, label %copy, label %head
single:
  %digit = trunc i64 %v to i8
  %char = add i8 %digit, 48
  %place = getelementptr i8, ptr %p, i64 -1
  store i8 %char, ptr %place
  br label %copy
copy:
  %start = phi ptr [ %place, %single ], [ %before, %pair ]
  %behind = call ptr @copied(ptr %out, ptr %start, ptr %end)
  ret ptr %behind
}

define internal ptr @power(ptr %out, i64 %value, i64 %shift, ptr %alphabet) #0 {
entry:
  %buffer = alloca [56 x i8], align 8
  %end = getelementptr i8, ptr %buffer, i64 24
  %base = shl i64 1, %shift
  %mask = sub i64 %base, 1
  br label %head
head:
  %v = phi i64 [ %value, %entry ], [ %rest, %head ]
  %p = phi ptr [ %end, %entry ], [ %before, %head ]
  %digit = and i64 %v, %mask
  %from = getelementptr i8, ptr %alphabet, i64 %digit
  %char = load i8, ptr %from
  %before = getelementptr i8, ptr %p, i64 -1
  store i8 %char, ptr %before
  %rest = lshr i64 %v, %shift
  %finished = icmp eq i64 %rest, 0
  br i1 %finished, label %copy, label %head
copy:
  %behind = call ptr @copied(ptr %out, ptr %before, ptr %end)
  ret ptr %behind
}

define internal ptr @signed(ptr %out, i64 %value, ptr %data) #0 {
  %negative = icmp slt i64 %value, 0
  br i1 %negative, label %minus, label %digits
minus:
  store i8 45, ptr %out
  %behind = getelementptr i8, ptr %out, i64 1
  %opposite = sub i64 0, %value
  br label %digits
digits:
  %at = phi ptr [ %out, %0 ], [ %behind, %minus ]
  %size = phi i64 [ %value, %0 ], [ %opposite, %minus ]
  %end = call ptr @decimal(ptr %at, i64 %size, ptr %data)
  ret ptr %end
}

define internal ptr @copy(ptr %out, ptr %from, i64 %length) #0 {
entry:
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %i1, %next ]
  %more = icmp ult i64 %i, %length
  br i1 %more, label %next, label %done
next:
  %source = getelementptr i8, ptr %from, i64 %i
  %byte = load i8, ptr %source
  %target = getelementptr i8, ptr %out, i64 %i
  store i8 %byte, ptr %target
  %i1 = add i64 %i, 1
  br label %head
done:
  %behind = getelementptr i8, ptr %out, i64 %length
  ret ptr %behind
}

define internal ptr @fill(ptr %out, i64 %count, i8 %byte) #0 {
entry:
  %end = getelementptr i8, ptr %out, i64 %count
  br label %head
head:
  %p = phi ptr [ %out, %entry ], [ %after, %next ]
  %done = icmp eq ptr %p, %end
  br i1 %done, label %exit, label %next
next:
  store i8 %byte, ptr %p
  %after = getelementptr i8, ptr %p, i64 1
  br label %head
exit:
  ret ptr %end
}

define internal ptr @words(ptr %out, ptr %from, i64 %size, ptr %trailer, i64 %extra) #0 {
entry:
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %i1, %keep ]
  %at = getelementptr i8, ptr %out, i64 %i
  %more = icmp ult i64 %i, %size
  br i1 %more, label %next, label %cut
next:
  %source = getelementptr i8, ptr %from, i64 %i
  %byte = load i8, ptr %source
  %nul = icmp eq i8 %byte, 0
  br i1 %nul, label %done, label %keep
keep:
  store i8 %byte, ptr %at
  %i1 = add i64 %i, 1
  br label %head
cut:
  %none = icmp eq i64 %size, 0
  br i1 %none, label %done, label %mark
mark:
  %marked = call ptr @copy(ptr %at, ptr %trailer, i64 %extra)
  ret ptr %marked
done:
  ret ptr %at
}

define internal ptr @octets(ptr %out, ptr %from, i64 %room, i16 %prefix, i8 %between, i1 %printable, i64 %before,
                            i64 %behind, ptr %lower) #0 {
entry:
  %given32 = load i32, ptr %from, align 1
  %given = zext i32 %given32 to i64
  %less = icmp ult i64 %given, %room
  %length = select i1 %less, i64 %given, i64 %room
  %start = getelementptr i8, ptr %from, i64 4
  %end = getelementptr i8, ptr %start, i64 %length
  %none = icmp eq i64 %length, 0
  br i1 %none, label %empty, label %head
empty:
  ret ptr %out
head:
  %p = phi ptr [ %start, %entry ], [ %p1, %written ]
  %o = phi ptr [ %out, %entry ], [ %o.next, %written ]
  %byte = load i8, ptr %p
  %p1 = getelementptr i8, ptr %p, i64 1
  %above = sub i8 %byte, 32
  %ascii = icmp ult i8 %above, 95
  %plain = and i1 %ascii, %printable
  br i1 %plain, label %same, label %coded
same:
  store i8 %byte, ptr %o
  %o.same = getelementptr i8, ptr %o, i64 1
  br label %written
coded:
  store i16 %prefix, ptr %o, align 1
  %high.at = getelementptr i8, ptr %o, i64 %before
  %high = lshr i8 %byte, 4
  %high64 = zext i8 %high to i64
  %high.from = getelementptr i8, ptr %lower, i64 %high64
  %high.char = load i8, ptr %high.from
  store i8 %high.char, ptr %high.at
  %low = and i8 %byte, 15
  %low64 = zext i8 %low to i64
  %low.from = getelementptr i8, ptr %lower, i64 %low64
  %low.char = load i8, ptr %low.from
  %low.at = getelementptr i8, ptr %high.at, i64 1
  store i8 %low.char, ptr %low.at
  %o.coded = getelementptr i8, ptr %low.at, i64 1
  br label %written
written:
  %o.behind = phi ptr [ %o.same, %same ], [ %o.coded, %coded ]
  store i8 %between, ptr %o.behind
  %o.next = getelementptr i8, ptr %o.behind, i64 %behind
  %finished = icmp eq ptr %p1, %end
  br i1 %finished, label %done, label %head
done:
  ret ptr %o.behind
}

define internal ptr @padded(ptr %start, ptr %end, i64 %width, i8 %byte, i1 %left) #0 {
entry:
  %from = ptrtoint ptr %start to i64
  %to = ptrtoint ptr %end to i64
  %length = sub i64 %to, %from
  %missing = sub i64 %width, %length
  %short = icmp sgt i64 %missing, 0
  br i1 %short, label %side, label %enough
enough:
  ret ptr %end
side:
  br i1 %left, label %behind, label %head
behind:
  %filled = call ptr @fill(ptr %end, i64 %missing, i8 %byte)
  ret ptr %filled
head:
  %i = phi i64 [ %length, %side ], [ %i1, %move ]
  %some = icmp ne i64 %i, 0
  br i1 %some, label %move, label %before
move:
  %i1 = sub i64 %i, 1
  %source = getelementptr i8, ptr %start, i64 %i1
  %moved = load i8, ptr %source
  %target = getelementptr i8, ptr %source, i64 %missing
  store i8 %moved, ptr %target
  br label %head
before:
  %unused = call ptr @fill(ptr %start, i64 %missing, i8 %byte)
  %all = getelementptr i8, ptr %start, i64 %width
  ret ptr %all
}

define internal ptr @escaped(ptr %out, ptr %start, ptr %end, ptr %lower) #0 {
entry:
  br label %head
head:
  %p = phi ptr [ %start, %entry ], [ %after, %plain ], [ %after, %named ], [ %after, %coded ]
  %o = phi ptr [ %out, %entry ], [ %o1, %plain ], [ %o2, %named ], [ %o6, %coded ]
  %finished = icmp eq ptr %p, %end
  br i1 %finished, label %done, label %next
next:
  %byte = load i8, ptr %p
  %after = getelementptr i8, ptr %p, i64 1
  switch i8 %byte, label %rest [
    i8 34, label %named
    i8 92, label %named
    i8 10, label %newline
    i8 13, label %return
    i8 9, label %tab
  ]
rest:
  %foreign = icmp slt i8 %byte, 0
  br i1 %foreign, label %refuse, label %ascii
ascii:
  %control = icmp ult i8 %byte, 32
  br i1 %control, label %coded, label %plain
plain:
  store i8 %byte, ptr %o
  %o1 = getelementptr i8, ptr %o, i64 1
  br label %head
newline:
  br label %named
return:
  br label %named
tab:
  br label %named
named:
  %letter = phi i8 [ %byte, %next ], [ %byte, %next ], [ 110, %newline ], [ 114, %return ], [ 116, %tab ]
  store i8 92, ptr %o
  %letter.at = getelementptr i8, ptr %o, i64 1
  store i8 %letter, ptr %letter.at
  %o2 = getelementptr i8, ptr %o, i64 2
  br label %head
coded:
  store i32 808482140, ptr %o, align 1
  %high = lshr i8 %byte, 4
  %high64 = zext i8 %high to i64
  %high.from = getelementptr i8, ptr %lower, i64 %high64
  %high.char = load i8, ptr %high.from
  %high.at = getelementptr i8, ptr %o, i64 4
  store i8 %high.char, ptr %high.at
  %low = and i8 %byte, 15
  %low64 = zext i8 %low to i64
  %low.from = getelementptr i8, ptr %lower, i64 %low64
  %low.char = load i8, ptr %low.from
  %low.at = getelementptr i8, ptr %o, i64 5
  store i8 %low.char, ptr %low.at
  %o6 = getelementptr i8, ptr %o, i64 6
  br label %head
refuse:
  ret ptr null
done:
  ret ptr %o
}

define internal ptr @exact(ptr %out, i64 %value, i1 %sign, ptr %data) #0 {
entry:
  %below = icmp slt i64 %value, 0
  %negative = and i1 %below, %sign
  %opposite = sub i64 0, %value
  %size = select i1 %negative, i64 %opposite, i64 %value
  %zero = icmp eq i64 %size, 0
  br i1 %zero, label %number, label %weigh
weigh:
  %trailing = call i64 @llvm.cttz.i64(i64 %size, i1 true)
  %odd = lshr i64 %size, %trailing
  %fits = icmp ult i64 %odd, 9007199254740992
  br i1 %fits, label %number, label %quoted
quoted:
  store i8 34, ptr %out
  %inside = getelementptr i8, ptr %out, i64 1
  br label %number
number:
  %quotes = phi i64 [ 0, %entry ], [ 0, %weigh ], [ 1, %quoted ]
  %at = phi ptr [ %out, %entry ], [ %out, %weigh ], [ %inside, %quoted ]
  br i1 %negative, label %minus, label %digits
minus:
  store i8 45, ptr %at
  %behind = getelementptr i8, ptr %at, i64 1
  br label %digits
digits:
  %first = phi ptr [ %at, %number ], [ %behind, %minus ]
  %end = call ptr @decimal(ptr %first, i64 %size, ptr %data)
  store i8 34, ptr %end
  %all = getelementptr i8, ptr %end, i64 %quotes
  ret ptr %all
}

declare i64 @llvm.cttz.i64(i64, i1)
"""
