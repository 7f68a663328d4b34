"""What a customer is about to buy."""

from shop.money import cents


class Cart:
    """Lines of a name, a price in cents and a count."""

    def __init__(self, lines=[]):
        self.lines = lines

    def add(self, name, price, count=1):
        self.lines.append((name, cents(price), count))

    def total(self):
        return sum(price * count for _, price, count in self.lines)
